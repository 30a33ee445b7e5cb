//! Which nodes of the index a reader is a member of, and how that changes with its selector.
//!
//! A reader's links and a node's members point at each other by position; whoever moves one tells the other.
//! Every node counts its parked members, so linking and unlinking a parked reader counts too.

use std::sync::Arc;

use super::Shard;
use crate::{
    ClientInfo, ConnectionInfo, ReaderKey, Selector,
    patterns::PatternKeys,
    reader::{Links, State},
    topics::{ALL, Member},
};

/// What became of an attempt to change a selector, with what is not needed any more, to be let go without the
/// lock.
pub(crate) enum Exchange {
    Done {
        selector: Arc<Selector>,
        patterns: PatternKeys,
    },
    /// Someone else changed it since it was looked at.
    Changed {
        patterns: PatternKeys,
    },
    Gone {
        patterns: PatternKeys,
    },
}

impl<T> Shard<T> {
    /// Exchanges the selector, if it is still the one that was seen.
    ///
    /// A parked reader stays parked: it has seen everything so far, and the new selector holds from here on.
    /// One that is reading gets what the new selector wants from its cursor on.
    pub(crate) fn exchange_selector(
        &mut self,
        key: ReaderKey,
        seen: &Arc<Selector>,
        new: &Arc<Selector>,
        patterns: PatternKeys,
    ) -> Exchange {
        match self.open_reader(key) {
            None => return Exchange::Gone { patterns },
            Some(reader) if !Arc::ptr_eq(&reader.selector, seen) => {
                return Exchange::Changed { patterns };
            }
            Some(_) => {}
        }
        self.unlink(key.slot);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return Exchange::Gone { patterns };
        };
        reader.is_changed = true;
        let selector = std::mem::replace(&mut reader.selector, Arc::clone(new));
        let patterns = std::mem::replace(&mut reader.patterns, patterns);
        self.link(key.slot);
        Exchange::Done { selector, patterns }
    }

    /// Exchanges what is known of the client; what it was before, if the reader is there. A cohort that it was in is not its own any
    /// more, as after another selector.
    pub(crate) fn exchange_client(
        &mut self,
        key: ReaderKey,
        client: &Arc<ClientInfo>,
    ) -> Option<Arc<ConnectionInfo>> {
        self.open_reader(key)?;
        self.unlink(key.slot);
        let reader = self.readers.get_mut(key.slot)?;
        let info = ConnectionInfo {
            client: Arc::clone(client),
            ..(*reader.info).clone()
        };
        reader.is_changed = true;
        let before = std::mem::replace(&mut reader.info, Arc::new(info));
        self.link(key.slot);
        Some(before)
    }

    /// Makes the reader a member of each node of its selector and of its own names.
    pub(super) fn link(&mut self, slot: u32) {
        let floor = self.window.floor();
        let Some(reader) = self.readers.get_mut(slot) else {
            return;
        };
        reader.filters_labels = reader.selector.labels.is_some();
        reader.asks_grants = reader.visibility().must_be_asked();
        let mut nodes: Vec<u32> = Vec::new();
        if reader.follows_all() {
            nodes.push(ALL);
        } else {
            let names = reader
                .selector
                .exact_topics()
                .iter()
                .chain(reader.info.client.visibility.own());
            nodes.extend(names.map(|name| self.index.topic_or_insert(name, floor)));
            for key in reader.patterns.as_slice() {
                nodes.push(
                    self.index
                        .pattern_or_insert(key.number, Arc::clone(&key.text)),
                );
            }
            nodes.sort_unstable();
            nodes.dedup();
        }
        let parked = u32::from(reader.state == State::Parked);
        reader.links = (0..)
            .zip(nodes)
            .map(|(link, node)| {
                if let Some(node) = self.index.node_mut(node) {
                    node.parked += parked;
                }
                self.index.join(node, Member { slot, link })
            })
            .collect();
    }

    pub(super) fn unlink(&mut self, slot: u32) {
        let Some(reader) = self.readers.get_mut(slot) else {
            return;
        };
        let parked = u32::from(reader.state == State::Parked);
        let links = std::mem::replace(&mut reader.links, Links::none());
        for link in links.as_slice() {
            if let Some(node) = self.index.node_mut(link.node) {
                node.parked -= parked;
            }
            // A reader is a member of a node once, so whoever moved here is another one.
            if let Some(moved) = self.index.leave(*link)
                && let Some(other) = self.readers.get_mut(moved.slot)
                && let Some(back) = other.links.as_mut_slice().get_mut(moved.link as usize)
            {
                back.position = link.position;
            }
        }
    }
}
