/// A set of candidates, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Set(Vec<u64>);

impl Set {
    pub(crate) fn of(items: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::default();
        for item in items {
            set.insert(item);
        }
        set
    }

    pub(crate) fn insert(&mut self, item: usize) {
        let word = item / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (item % 64);
    }

    pub(crate) fn remove(&mut self, item: usize) {
        if let Some(word) = self.0.get_mut(item / 64) {
            *word &= !(1 << (item % 64));
        }
        self.trim();
    }

    pub(crate) fn contains(&self, item: usize) -> bool {
        self.0.get(item / 64).is_some_and(|word| word & (1 << (item % 64)) != 0)
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(i, word)| word & !other.0.get(i).copied().unwrap_or(0) == 0)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect());
        both.trim();
        both
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                // Takes the lowest bit away; nothing is left of zero.
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(i * 64 + bit)
            })
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn with(&self, other: &Self) -> Self {
        let (long, short) = if self.0.len() >= other.0.len() { (self, other) } else { (other, self) };
        let mut both = long.clone();
        both.0.iter_mut().zip(&short.0).for_each(|(word, more)| *word |= more);
        both
    }

    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.0.iter_mut().zip(&other.0).for_each(|(word, less)| *word &= !less);
        left.trim();
        left
    }

    /// Trailing zeros would make equal sets differ.
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn sets_behave_like_sets(a in prop::collection::btree_set(0..300_usize, 0..40), b in prop::collection::btree_set(0..300_usize, 0..40)) {
            let (x, y) = (Set::of(a.iter().copied()), Set::of(b.iter().copied()));
            prop_assert_eq!(x.with(&y).iter().collect::<BTreeSet<_>>(), &a | &b);
            prop_assert_eq!(x.without(&y).iter().collect::<BTreeSet<_>>(), &a - &b);
            prop_assert_eq!(x.intersection(&y), Set::of(a.intersection(&b).copied()));
            prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            prop_assert_eq!(x.without(&x), Set::default());
            prop_assert_eq!(x.len(), a.len());
        }
    }
}
