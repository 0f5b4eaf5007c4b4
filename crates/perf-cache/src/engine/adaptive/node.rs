//! What a policy knows of an entry.

use super::list::{Linked, Links};
use crate::Priority;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    Window,
    Probation,
    Protected,
    /// Pinned, to go last.
    High,
    /// Pinned, to go first.
    Low,
    /// Nobody's: the number is free.
    Free,
}

impl Region {
    /// Where an entry stays that is pinned.
    pub(super) const fn of(priority: Priority) -> Option<Self> {
        match priority {
            Priority::Low => Some(Self::Low),
            Priority::Normal => None,
            Priority::High => Some(Self::High),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) hash: u64,
    pub(super) weight: u64,
    /// Weight that had entered or re-entered the window when this node last did.
    pub(super) entered: u64,
    pub(super) region: Region,
    /// Second chances saved up.
    pub(super) chances: u8,
    /// Whether it was used since it came.
    pub(super) is_used: bool,
    pub(super) links: Links,
}

impl Node {
    pub(super) fn new(hash: u64, weight: u64, entered: u64, region: Region) -> Self {
        Self { hash, weight, entered, region, chances: 0, is_used: false, links: Links::default() }
    }
}

/// Entries by number.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: Vec<Node>,
    free: Vec<u32>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<Node> {
        self.all.get(number as usize).copied().filter(|node| node.region != Region::Free)
    }

    pub(super) fn add(&mut self, node: Node) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = node;
            return number;
        }
        self.all.push(node);
        (self.all.len() - 1) as u32
    }

    pub(super) fn give_up(&mut self, number: u32) {
        self[number].region = Region::Free;
        self.free.push(number);
    }
}

impl std::ops::Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, number: u32) -> &Node {
        &self.all[number as usize]
    }
}

impl std::ops::IndexMut<u32> for Nodes {
    fn index_mut(&mut self, number: u32) -> &mut Node {
        &mut self.all[number as usize]
    }
}

impl Linked for Nodes {
    fn links(&mut self, node: u32) -> &mut Links {
        &mut self[node].links
    }
}
