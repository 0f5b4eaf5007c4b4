//! The head of an answer: status line and headers, found and judged without copying.

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A complete head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length in bytes, the empty line included.
    pub(super) length: usize,
    /// Where the headers begin.
    pub(super) headers: usize,
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

/// Reads the head at the start of `bytes`. `searched` says how far earlier calls looked in vain and is moved on.
///
/// `Ok(None)` means that more bytes are needed.
pub(super) fn parse(
    bytes: &[u8],
    searched: &mut usize,
    bodiless: bool,
) -> Result<Option<Head>, &'static str> {
    let Some(length) = end_of_head(bytes, *searched) else {
        // The end may be split anywhere inside its four bytes.
        *searched = bytes.len().saturating_sub(3);
        return if plausible(bytes) { Ok(None) } else { Err("the answer does not begin with HTTP/1.") };
    };
    let head = &bytes[..length];
    let line_end = head.iter().position(|b| *b == b'\n').unwrap_or(length - 1) + 1;
    let (status, minor) = status_line(&head[..line_end])?;
    let mut head =
        Head { length, headers: line_end, status, framing: Framing::UntilClose, keep_alive: minor >= 1 };
    read_headers(&bytes[line_end..length], &mut head)?;
    if bodiless || status == 204 || status == 304 || (100..200).contains(&status) {
        head.framing = Framing::Length(0);
    }
    if head.framing == Framing::UntilClose {
        head.keep_alive = false;
    }
    Ok(Some(head))
}

fn plausible(bytes: &[u8]) -> bool {
    let known = b"HTTP/1.";
    let shown = bytes.len().min(known.len());
    bytes[..shown] == known[..shown]
}

fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let mut from = searched;
    while let Some(found) = bytes[from..].iter().position(|b| *b == b'\n') {
        let after = from + found + 1;
        match &bytes[after..] {
            [b'\r', b'\n', ..] => return Some(after + 2),
            [b'\n', ..] => return Some(after + 1),
            _ => from = after,
        }
    }
    None
}

fn status_line(line: &[u8]) -> Result<(u16, u8), &'static str> {
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', a, b, c, rest @ ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit())
                && *a != b'0'
                && matches!(rest.first(), Some(b' ' | b'\r' | b'\n')) =>
        {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok((digit(a) * 100 + digit(b) * 10 + digit(c), minor - b'0'))
        }
        _ => Err("the status line is not valid"),
    }
}

fn read_headers(headers: &[u8], head: &mut Head) -> Result<(), &'static str> {
    let (mut length, mut chunked) = (None, false);
    for line in lines(headers) {
        let Some((name, value)) = split(line) else { return Err("a header has no colon") };
        // Only three names matter here; their lengths are looked at before their letters.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let value = number(value).ok_or("the content-length is not a number")?;
                if length.is_some_and(|known| known != value) {
                    return Err("there are two different content-lengths");
                }
                length = Some(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if !last_token_is(value, b"chunked") {
                    return Err("the transfer-encoding does not end in chunked");
                }
                chunked = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                if has_token(value, b"close") {
                    head.keep_alive = false;
                } else if has_token(value, b"keep-alive") {
                    head.keep_alive = true;
                }
            }
            _ => {}
        }
    }
    head.framing = match (chunked, length) {
        (true, Some(_)) => return Err("there are both a content-length and a transfer-encoding"),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    Ok(())
}

/// The value of the first header of this name, without the white space around it.
pub(crate) fn header<'a>(headers: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(headers).filter_map(split).find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
}

fn lines(headers: &[u8]) -> impl Iterator<Item = &[u8]> {
    headers
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

fn last_token_is(value: &[u8], token: &[u8]) -> bool {
    value.rsplit(|b| *b == b',').next().is_some_and(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
        parse(bytes, &mut 0, false)
    }

    #[test]
    fn the_three_framings_are_told_apart() {
        let head = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nrest").unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (200, Framing::Length(13), true));
        assert_eq!((head.headers, head.length), (17, 39));
        let head = whole(b"HTTP/1.1 503\r\ntransfer-encoding: gzip, Chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (503, Framing::Chunked, true));
        let head = whole(b"HTTP/1.1 200 OK\n\n").unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::UntilClose, false));
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for start in ["HTTP/1.1 204 x", "HTTP/1.1 304 x", "HTTP/1.1 100 x"] {
            let text = format!("{start}\r\ncontent-length: 5\r\n\r\n");
            assert_eq!(whole(text.as_bytes()).unwrap().unwrap().framing, Framing::Length(0), "{start}");
        }
        let head = parse(b"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n", &mut 0, true).unwrap().unwrap();
        assert_eq!(head.framing, Framing::Length(0));
    }

    #[test]
    fn the_connection_header_and_the_version_decide_on_keep_alive() {
        let keeps = |text: &str| whole(text.as_bytes()).unwrap().unwrap().keep_alive;
        assert!(!keeps("HTTP/1.1 200 x\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 x\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 x\r\nconnection: foo, keep-alive\r\ncontent-length: 0\r\n\r\n"));
    }

    #[test]
    fn answers_that_could_be_read_two_ways_are_refused() {
        for text in [
            "SSH-2.0-x",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20 x\r\n\r\n",
            "HTTP/1.1 2000 x\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 x\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 x\r\nno colon\r\n\r\n",
        ] {
            assert!(whole(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_head_split_anywhere_is_read_the_same(extra in "[a-z]{1,8}", cut in 0..70_usize) {
            let text = format!("HTTP/1.1 200 OK\r\nx-{extra}: y\r\ncontent-length: 3\r\n\r\nabc");
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut searched = 0;
            let first = parse(&bytes[..cut], &mut searched, false).unwrap();
            let second = parse(bytes, &mut searched, false).unwrap();
            prop_assert!(first.is_none() || first == second);
            prop_assert_eq!(second, whole(bytes).unwrap());
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), noise in any::<bool>()) {
            let mut input = if noise { Vec::new() } else { b"HTTP/1.1 200 OK\r\n".to_vec() };
            input.extend(bytes);
            let _ = whole(&input);
            let _ = header(&input, "x");
        }
    }
}
