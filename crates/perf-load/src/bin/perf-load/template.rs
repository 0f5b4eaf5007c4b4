use perf_core::Rng;
use std::fmt::Write;

/// A path in which `{a..b}` stands for a random number from a to b, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number { from: u64, span: u64 },
}

impl Template {
    /// Braces that hold no range stay as they are.
    pub(crate) fn new(path: &str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), path);
        while let Some((before, range, after)) = next_range(rest) {
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(range);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    pub(crate) fn fill(&self, rng: &mut Rng, path: &mut String) {
        path.clear();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                // Writing to a string cannot fail.
                Piece::Number { from, span } => drop(write!(path, "{}", from + rng.below(*span))),
            }
        }
    }
}

fn next_range(text: &str) -> Option<(&str, Piece, &str)> {
    text.match_indices('{').find_map(|(open, _)| {
        let (inside, after) = text[open + 1..].split_once('}')?;
        let (from, to) = inside.split_once("..")?;
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        let span = to.checked_sub(from)?.checked_add(1)?;
        Some((&text[..open], Piece::Number { from, span }, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_numbers_and_other_braces_stay() {
        let template = Template::new("/a/{3..5}/b?x={y}&n={7..7}");
        let mut rng = Rng::seeded(1);
        let mut seen = std::collections::BTreeSet::new();
        let mut path = String::new();
        for _ in 0..100 {
            template.fill(&mut rng, &mut path);
            seen.insert(path.clone());
        }
        let expected = [3, 4, 5].map(|n| format!("/a/{n}/b?x={{y}}&n=7"));
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
        for plain in ["/", "/{", "/{5..3}", "/{..}", "/{0..18446744073709551615}"] {
            assert_eq!(Template::new(plain), Template(vec![Piece::Text(plain.to_owned())]));
        }
    }
}
