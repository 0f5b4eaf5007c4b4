//! A slab of nodes in doubly linked lists, addressed by index: no pointer, no allocation per move.

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// The links of one node in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    older: u32,
    newer: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self { older: NONE, newer: NONE }
    }
}

/// The ends of a list and its weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    oldest: u32,
    newest: u32,
    pub(super) weight: u64,
}

impl Default for List {
    fn default() -> Self {
        Self { oldest: NONE, newest: NONE, weight: 0 }
    }
}

/// Access to the links of nodes: the same nodes are in several lists at once.
pub(super) trait Linked {
    fn links(&mut self, node: u32) -> &mut Links;
}

impl List {
    pub(super) const fn oldest(&self) -> Option<u32> {
        if self.oldest == NONE { None } else { Some(self.oldest) }
    }

    pub(super) fn push(&mut self, nodes: &mut impl Linked, node: u32, weight: u64) {
        let newest = std::mem::replace(&mut self.newest, node);
        *nodes.links(node) = Links { older: newest, newer: NONE };
        if newest == NONE {
            self.oldest = node;
        } else {
            nodes.links(newest).newer = node;
        }
        self.weight += weight;
    }

    pub(super) fn unlink(&mut self, nodes: &mut impl Linked, node: u32, weight: u64) {
        let Links { older, newer } = std::mem::take(nodes.links(node));
        if older == NONE {
            self.oldest = newer;
        } else {
            nodes.links(older).newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            nodes.links(newer).older = older;
        }
        self.weight -= weight;
    }

    /// The next newer node of the list.
    pub(super) fn newer(nodes: &mut impl Linked, node: u32) -> Option<u32> {
        let newer = nodes.links(node).newer;
        (newer != NONE).then_some(newer)
    }
}
