//! Reports in the formats that other tools read.

mod chart;
mod hdr;
mod html;
mod junit;

use crate::Error;
use crate::report::RunReport;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A format a report can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The whole report as JSON, which [`RunReport`] reads back.
    Json,
    /// A page that contains everything it needs and loads nothing.
    Html,
    /// The response times as HdrHistogram's percentile table, in milliseconds.
    Hgrm,
    /// The response times of each interval as an HdrHistogram log, in microseconds; logs of several machines can be merged.
    Hlog,
    /// The expectations and the generator's verdict as JUnit test cases.
    Junit,
}

impl RunReport {
    /// The report in a format.
    ///
    /// # Errors
    /// [`Error::Text`] when the data cannot be put in the format, which no report of a run causes.
    pub fn render(&self, format: Format) -> Result<String, Error> {
        match format {
            Format::Json => serde_json::to_string(self)
                .map_err(|error| Error::Text { what: "the report", detail: error.to_string() }),
            Format::Html => Ok(html::page(self)),
            Format::Hgrm => Ok(hdr::percentiles(self)),
            Format::Hlog => hdr::log(self),
            Format::Junit => Ok(junit::suite(self)),
        }
    }

    /// Writes the report to a file, which then holds all of it or what it held before.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written; see also [`render`](Self::render).
    pub fn write(&self, format: Format, path: impl AsRef<Path>) -> Result<(), Error> {
        let text = self.render(format)?;
        replace(path.as_ref(), text.as_bytes()).map_err(|source| refused(path.as_ref(), source))
    }

    /// Reads a report from JSON.
    ///
    /// # Errors
    /// [`Error::Text`] when it is not one, or one of a later format.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let refused = |detail: String| Error::Text { what: "the stored report", detail };
        let report: Self = serde_json::from_str(json).map_err(|error| refused(error.to_string()))?;
        if report.format == crate::REPORT_FORMAT {
            Ok(report)
        } else {
            Err(refused(format!(
                "its format is {}, this version reads {}",
                report.format,
                crate::REPORT_FORMAT
            )))
        }
    }

    /// Reads a report from a JSON file.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, otherwise as [`from_json`](Self::from_json).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let json = std::fs::read_to_string(path.as_ref()).map_err(|source| refused(path.as_ref(), source))?;
        Self::from_json(&json)
    }
}

fn refused(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), source }
}

/// Whether a file could be written at `path`, learned before a long run rather than after it.
///
/// # Errors
/// [`Error::File`] when it could not.
pub fn check_writable(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let written = if is_special(path) {
        std::fs::OpenOptions::new().write(true).open(path).map(drop)
    } else {
        let probe = beside(&resolved(path));
        std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe))
    };
    written.map_err(|source| refused(path, source))
}

/// Writes beside the file and renames, so that no reader ever sees half of it. Devices and pipes are written to as they are:
/// a rename would put a file in their place.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if is_special(path) {
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let path = resolved(path);
    let draft = beside(&path);
    let written = (|| {
        let mut file = std::fs::File::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    })();
    if written.is_err() {
        // The error that matters is the first; the draft may not even exist.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// Whether something is there that is no plain file.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// Where a link leads, so that the link stays and its file is replaced.
fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// Text as it may stand in HTML and XML. Characters that XML 1.0 does not allow become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push('\u{fffd}');
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_file_holds_all_of_a_report_or_what_it_held_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, "before").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        let report = report(985, 15);
        report.write(Format::Json, &path).unwrap();
        assert!(RunReport::read(&path).unwrap() == report);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("missing/run.json"), folder.path().to_path_buf()] {
            let before = check_writable(&path).unwrap_err();
            let after = report(1, 0).write(Format::Html, &path).unwrap_err();
            for error in [before, after] {
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
        }
        assert!(matches!(RunReport::read(folder.path().join("none")), Err(Error::File { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn devices_stay_devices_and_links_stay_links() {
        use std::os::unix::fs::FileTypeExt;
        let report = report(3, 0);
        check_writable("/dev/null").unwrap();
        report.write(Format::Json, "/dev/null").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "before").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        report.write(Format::Json, &link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(RunReport::read(&file).unwrap() == report);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_not_a_short_file() {
        let error = report(3, 0).write(Format::Html, "/dev/full").unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }

    #[test]
    fn what_is_not_a_report_of_this_format_is_refused() {
        let json = report(3, 0).render(Format::Json).unwrap();
        for text in ["", "{}", &json.replace("\"format\":1", "\"format\":2")] {
            assert!(matches!(RunReport::from_json(text), Err(Error::Text { .. })));
        }
    }

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(escape("<a b='1'>&\"\u{0}\u{1b}"), "&lt;a b=&#39;1&#39;&gt;&amp;&quot;\u{fffd}\u{fffd}");
    }
}
