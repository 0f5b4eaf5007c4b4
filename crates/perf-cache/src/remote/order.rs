//! Orders: what a record of the log asks other nodes to do, beside the fences that it tells. They travel as numbers, as
//! fences do, so that every log carries them.

/// What an order begins with; no hash of a tag or a key is expected to be this one.
const MARK: u64 = u64::from_be_bytes(*b"pkorder1");
/// Bytes of a pattern that an order has room for.
pub(crate) const LONGEST: usize = 4096;

/// Purge of a cache by a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The fence of the whole cache, which names it.
    pub(crate) namespace: u64,
    pub(crate) pattern: String,
}

impl Order {
    /// The numbers of its record; `None` when the pattern is too long.
    pub(crate) fn encode(&self) -> Option<Vec<u64>> {
        let bytes = self.pattern.as_bytes();
        if bytes.len() > LONGEST {
            return None;
        }
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_be_bytes(word)
        });
        Some([MARK, self.namespace, bytes.len() as u64].into_iter().chain(words).collect())
    }

    /// The order in a record; `None` when it is one of fences.
    pub(crate) fn decode(record: &[u64]) -> Option<Self> {
        let [MARK, namespace, length, words @ ..] = record else { return None };
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let length = usize::try_from(*length).ok().filter(|length| *length <= bytes.len())?;
        bytes.truncate(length);
        Some(Self { namespace: *namespace, pattern: String::from_utf8(bytes).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_is_read_as_it_was_written(namespace in any::<u64>(), pattern in ".{0,40}") {
            let order = Order { namespace, pattern };
            prop_assert_eq!(Order::decode(&order.encode().unwrap()), Some(order));
        }

        #[test]
        fn no_record_makes_the_reader_panic(rest in prop::collection::vec(any::<u64>(), 0..6)) {
            prop_assert_eq!(Order::decode(&rest), None);
            let marked: Vec<u64> = std::iter::once(MARK).chain(rest).collect();
            if let Some(order) = Order::decode(&marked) {
                prop_assert!(order.pattern.len() <= marked.len() * 8);
            }
        }
    }

    #[test]
    fn a_pattern_has_its_limit() {
        let order = |length| Order { namespace: 1, pattern: "a".repeat(length) };
        assert!(order(LONGEST).encode().is_some() && order(LONGEST + 1).encode().is_none());
    }
}
