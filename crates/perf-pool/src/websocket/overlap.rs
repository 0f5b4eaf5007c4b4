use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Tells which of two sources had a message first, while a subscription moves from one connection to another and its
/// messages carry no numbers. Equal messages are matched one to one, so that a value sent twice arrives twice. Pure.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlap {
    /// How many more of this message the first source had than the second.
    ahead: HashMap<u64, i32>,
}

impl Overlap {
    /// Whether the message is new: not the copy of one that the other source had before.
    pub(super) fn is_new(&mut self, message: &[u8], from_second: bool) -> bool {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let key = hasher.finish();
        let ahead = self.ahead.entry(key).or_insert(0);
        let is_copy = if from_second { *ahead > 0 } else { *ahead < 0 };
        *ahead += if from_second { -1 } else { 1 };
        if *ahead == 0 {
            self.ahead.remove(&key);
        }
        !is_copy
    }
}
