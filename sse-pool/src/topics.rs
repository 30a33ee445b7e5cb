//! The index: which readers follow a topic, and where the window holds its entries.
//!
//! A *node* is something readers can be members of: a topic, a distinct pattern, or "everything". A topic's
//! node lists the sequence numbers of its entries in the window, so that its readers find them without
//! looking at anyone else's, and knows after which offset that list is complete, which is what makes "lost" a
//! statement about the topic and not about the window. A node lives as long as it has a member or an entry.
//!
//! Members and links point at each other by position, so joining and leaving are O(1) per topic however many
//! readers it has.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{
    high_water::HighWater,
    slab::{Slab, give_back},
};

/// The node of the readers that follow everything; always there.
pub(crate) const ALL: u32 = 0;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) content: Content,
    members: Members,
    /// How many members are parked: an append to a topic whose readers are all busy looks at none of them.
    pub(crate) parked: u32,
}

#[derive(Debug)]
pub(crate) enum Content {
    All,
    Topic {
        /// The entries of this topic in the window, ascending.
        seqs: VecDeque<u64>,
        /// After this offset the list is complete: the newest entry of this topic that was evicted, or the
        /// window's floor when the node was made.
        complete_after: u64,
    },
    /// The pattern's number in the pool's table.
    Pattern(u64),
}

/// A reader's place in a node: its slot, and which of its links leads back here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    pub(crate) link: u32,
}

/// A node in a reader's list: the node, and the reader's position among its members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) node: u32,
    pub(crate) position: u32,
}

/// Most topics of a large hub have one reader: no allocation for it.
#[derive(Debug)]
enum Members {
    One(Member),
    Many(Vec<Member>),
}

impl Members {
    fn as_slice(&self) -> &[Member] {
        match self {
            Self::One(member) => std::slice::from_ref(member),
            Self::Many(members) => members,
        }
    }

    fn push(&mut self, member: Member) -> u32 {
        let position = self.as_slice().len();
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, member]),
            Self::Many(members) if members.capacity() == 0 => *self = Self::One(member),
            Self::Many(members) => members.push(member),
        }
        u32::try_from(position).expect("readers are numbered with 32 bits")
    }

    /// Removes the member at `position`; answers who moved there instead.
    fn swap_remove(&mut self, position: u32) -> Option<Member> {
        match self {
            Self::One(_) => {
                *self = Self::Many(Vec::new());
                None
            }
            Self::Many(members) => {
                members.swap_remove(position as usize);
                let moved = members.get(position as usize).copied();
                if members.is_empty() {
                    *members = Vec::new();
                } else {
                    give_back(members);
                }
                moved
            }
        }
    }
}

impl Node {
    fn new(name: Arc<str>, content: Content) -> Self {
        Self {
            name,
            content,
            members: Members::Many(Vec::new()),
            parked: 0,
        }
    }

    pub(crate) fn members(&self) -> &[Member] {
        self.members.as_slice()
    }

    fn is_unused(&self) -> bool {
        self.members().is_empty()
            && match &self.content {
                Content::All => false,
                Content::Topic { seqs, .. } => seqs.is_empty(),
                Content::Pattern(_) => true,
            }
    }
}

#[derive(Debug)]
pub(crate) struct Index {
    nodes: Slab<Node>,
    /// Topic nodes by name; four bytes each, the name stands in the node.
    topics: HashTable<u32>,
    /// Pattern nodes by the pattern's number.
    patterns: HashMap<u64, u32>,
    most_topics: HighWater,
    most_patterns: HighWater,
    /// The newest pattern that was ever linked here.
    newest_pattern: u64,
    hasher: RandomState,
}

impl Index {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        let all = nodes.insert(Node::new(Arc::from("*"), Content::All));
        debug_assert_eq!(all, ALL);
        Self {
            nodes,
            topics: HashTable::new(),
            patterns: HashMap::new(),
            most_topics: HighWater::default(),
            most_patterns: HighWater::default(),
            newest_pattern: 0,
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub(crate) const fn newest_pattern(&self) -> u64 {
        self.newest_pattern
    }

    pub(crate) fn node(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node)
    }

    pub(crate) fn node_mut(&mut self, node: u32) -> Option<&mut Node> {
        self.nodes.get_mut(node)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<u32> {
        let nodes = &self.nodes;
        self.topics
            .find(self.hasher.hash_one(name), |&node| {
                is_named(nodes, node, name)
            })
            .copied()
    }

    /// The node of a topic. A new one is complete after `floor`, as the window is.
    pub(crate) fn topic_or_insert(&mut self, name: &Arc<str>, floor: u64) -> u32 {
        let hash = self.hasher.hash_one(&**name);
        let nodes = &self.nodes;
        if let Some(&node) = self.topics.find(hash, |&node| is_named(nodes, node, name)) {
            return node;
        }
        let content = Content::Topic {
            seqs: VecDeque::new(),
            complete_after: floor,
        };
        let node = self.nodes.insert(Node::new(Arc::clone(name), content));
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.topics
            .insert_unique(hash, node, |&node| hash_of(nodes, hasher, node));
        self.most_topics.grown(self.topics.len());
        node
    }

    pub(crate) fn pattern(&self, number: u64) -> Option<u32> {
        self.patterns.get(&number).copied()
    }

    /// The nodes of the patterns that are newer than `known`.
    pub(crate) fn patterns_after(&self, known: u64) -> Vec<u32> {
        let newer = self.patterns.iter().filter(|&(&number, _)| number > known);
        newer.map(|(_, &node)| node).collect()
    }

    pub(crate) fn pattern_or_insert(&mut self, number: u64, name: Arc<str>) -> u32 {
        if let Some(&node) = self.patterns.get(&number) {
            return node;
        }
        self.newest_pattern = self.newest_pattern.max(number);
        let node = self.nodes.insert(Node::new(name, Content::Pattern(number)));
        self.patterns.insert(number, node);
        self.most_patterns.grown(self.patterns.len());
        node
    }

    pub(crate) fn join(&mut self, node: u32, member: Member) -> Link {
        let position = self
            .nodes
            .get_mut(node)
            .map_or(0, |node| node.members.push(member));
        Link { node, position }
    }

    /// Takes the reader behind `link` out of the node, and answers who moved to its position.
    pub(crate) fn leave(&mut self, link: Link) -> Option<Member> {
        let node = self.nodes.get_mut(link.node)?;
        let moved = node.members.swap_remove(link.position);
        self.free_if_unused(link.node);
        moved
    }

    /// Notes an entry of a topic; naming a topic twice notes it once. True for the first entry that it has now.
    pub(crate) fn push(&mut self, node: u32, seq: u64) -> bool {
        let Some(Content::Topic { seqs, .. }) =
            self.nodes.get_mut(node).map(|node| &mut node.content)
        else {
            return false;
        };
        let is_first = seqs.is_empty();
        if seqs.back() != Some(&seq) {
            seqs.push_back(seq);
        }
        is_first
    }

    /// Forgets an entry of a topic that left the window. True when it was the last one that the topic had.
    pub(crate) fn evict(&mut self, name: &str, seq: u64, offset: u64) -> bool {
        let Some(node) = self.topic(name) else {
            return false;
        };
        let mut is_last = false;
        if let Some(Content::Topic {
            seqs,
            complete_after,
        }) = self.nodes.get_mut(node).map(|node| &mut node.content)
        {
            let had_some = !seqs.is_empty();
            while seqs.front().is_some_and(|&front| front <= seq) {
                seqs.pop_front();
                *complete_after = offset;
            }
            is_last = had_some && seqs.is_empty();
            give_back_deque(seqs);
        }
        self.free_if_unused(node);
        is_last
    }

    /// Forgets all entries: the window is empty, and complete after `floor` of another series.
    pub(crate) fn clear(&mut self, floor: u64) {
        let numbers = 0..u32::try_from(self.nodes.end()).unwrap_or(u32::MAX);
        for number in numbers {
            let Some(node) = self.nodes.get_mut(number) else {
                continue;
            };
            if let Content::Topic {
                seqs,
                complete_after,
            } = &mut node.content
            {
                *seqs = VecDeque::new();
                *complete_after = floor;
            }
            self.free_if_unused(number);
        }
    }

    fn free_if_unused(&mut self, number: u32) {
        let Some(node) = self.nodes.get(number) else {
            return;
        };
        if !node.is_unused() {
            return;
        }
        match node.content {
            Content::All => return,
            Content::Pattern(pattern) => {
                self.patterns.remove(&pattern);
                if let Some(capacity) = self.most_patterns.shrunk(self.patterns.len()) {
                    self.patterns.shrink_to(capacity);
                }
            }
            Content::Topic { .. } => {
                let hash = self.hasher.hash_one(&*node.name);
                if let Ok(found) = self.topics.find_entry(hash, |&node| node == number) {
                    found.remove();
                }
            }
        }
        self.nodes.remove(number);
        if let Some(capacity) = self.most_topics.shrunk(self.topics.len()) {
            let (nodes, hasher) = (&self.nodes, &self.hasher);
            self.topics
                .shrink_to(capacity, |&node| hash_of(nodes, hasher, node));
        }
    }

    #[cfg(test)]
    fn size_bytes(&self) -> usize {
        self.nodes.size_bytes()
            + self.topics.allocation_size()
            + self.patterns.capacity() * size_of::<(u64, u32)>()
    }
}

fn is_named(nodes: &Slab<Node>, node: u32, name: &str) -> bool {
    nodes.get(node).is_some_and(|node| &*node.name == name)
}

fn hash_of(nodes: &Slab<Node>, hasher: &RandomState, node: u32) -> u64 {
    nodes
        .get(node)
        .map_or(0, |node| hasher.hash_one(&*node.name))
}

fn give_back_deque(deque: &mut VecDeque<u64>) {
    if deque.is_empty() {
        *deque = VecDeque::new();
    } else if deque.capacity() > 16 && deque.len() < deque.capacity() / 4 {
        deque.shrink_to(deque.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_topics_leave_nothing_behind_when_their_readers_are_gone() {
        let mut index = Index::new();
        let links: Vec<Link> = (0..100_000_u32)
            .map(|n| {
                let node = index.topic_or_insert(&Arc::from(format!("t{n}")), 1);
                index.join(node, Member { slot: n, link: 0 })
            })
            .collect();
        assert_eq!(index.topic_count(), 100_000);
        for link in links {
            index.leave(link);
        }
        assert_eq!(index.topic_count(), 0);
        let left = index.size_bytes();
        assert!(left < 8_000, "{left} bytes");
    }

    #[test]
    fn leaving_tells_who_moved_into_the_place() {
        let mut index = Index::new();
        let node = index.topic_or_insert(&Arc::from("t"), 1);
        let links: Vec<Link> = (0..3)
            .map(|slot| index.join(node, Member { slot, link: 0 }))
            .collect();
        assert_eq!(index.leave(links[0]).map(|moved| moved.slot), Some(2));
        assert!(
            index.leave(Link { node, position: 1 }).is_none(),
            "it was the last in the list"
        );
        assert_eq!(index.node(node).map(|node| node.members().len()), Some(1));
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
    }
}
