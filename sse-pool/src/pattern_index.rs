//! Which of many patterns mean a topic: those are looked at whose literal prefix and suffix it has, and many of the same all at
//! once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    TopicPattern,
    automaton::{Automaton, Program, Scratch},
    prefix_map::{PrefixKey, PrefixMap},
};

/// Patterns by number.
#[derive(Debug, Default)]
pub(crate) struct PatternIndex {
    by_prefix: PrefixMap<Place>,
    groups: Vec<Option<Group>>,
    /// Places in `groups` without one.
    free: Vec<u32>,
}

/// Where a pattern stands.
#[derive(Debug)]
pub(crate) struct PatternPlace {
    prefix: PrefixKey,
    suffix: Option<Box<str>>,
}

/// What stands at a literal prefix.
#[derive(Debug)]
enum Place {
    /// A pattern that is asked itself.
    One(One),
    /// Many that are asked at once: which of the groups.
    Many(u32),
}

#[derive(Debug)]
struct One {
    number: u64,
    pattern: Arc<dyn TopicPattern>,
    program: Option<Box<Program>>,
}

/// Many patterns of one literal prefix.
#[derive(Debug)]
struct Group {
    prefix: Box<str>,
    /// Those that mean all that begins so.
    whole: Vec<u64>,
    many: Many,
    len: usize,
}

/// Patterns that are asked all at once.
#[derive(Debug, Default)]
struct Many {
    /// Those of which every topic ends in some text, by its length.
    by_suffix: BTreeMap<usize, HashMap<Box<str>, Ending>>,
    others: Automaton,
}

/// The patterns of one literal prefix and suffix.
#[derive(Debug, Default)]
struct Ending {
    /// Those that mean all that ends so.
    whole: Vec<u64>,
    others: Automaton,
    len: usize,
}

/// A pattern with what the index must know of it, which is asked before any lock is taken.
#[derive(Debug)]
pub(crate) struct Prepared {
    pattern: Arc<dyn TopicPattern>,
    program: Option<Box<Program>>,
}

impl Prepared {
    pub(crate) fn new(pattern: &Arc<dyn TopicPattern>) -> Self {
        let parts = pattern.parts();
        let program = parts.and_then(|parts| Program::new(&parts, pattern.literal_prefix()));
        Self {
            pattern: Arc::clone(pattern),
            program: program.map(Box::new),
        }
    }

    /// One that is only asked.
    pub(crate) fn unknown(pattern: &Arc<dyn TopicPattern>) -> Self {
        Self {
            pattern: Arc::clone(pattern),
            program: None,
        }
    }
}

/// Patterns that have to be asked themselves.
pub(crate) type Asked = Vec<(u64, Arc<dyn TopicPattern>)>;

impl PatternIndex {
    /// Adds a pattern; its number is larger than those before. The patterns that are given back are to be dropped without a
    /// lock.
    pub(crate) fn insert(
        &mut self,
        number: u64,
        prefix: &str,
        prepared: Prepared,
    ) -> (PatternPlace, Asked) {
        let Prepared { pattern, program } = prepared;
        let key = self.by_prefix.key(prefix);
        let place = PatternPlace {
            prefix: key,
            suffix: program.as_ref().and_then(|it| it.suffix()).map(Box::from),
        };
        let many = self.by_prefix.at(key).find_map(|it| match it {
            Place::Many(group) => Some(*group as usize),
            Place::One(_) => None,
        });
        if let Some(program) = &program
            && let Some(Some(group)) = many.map(|at| &mut self.groups[at])
        {
            group.insert(number, program);
            return (place, vec![(number, pattern)]);
        }
        let one = One {
            number,
            pattern,
            program,
        };
        self.by_prefix.insert(prefix, Place::One(one));
        let known = self.by_prefix.at(key).filter(|it| it.is_known()).count();
        let dropped = match many.is_none() && known >= MANY {
            true => self.join(prefix, key),
            false => Asked::new(),
        };
        (place, dropped)
    }

    /// Puts those of one prefix together, once they are many.
    fn join(&mut self, prefix: &str, key: PrefixKey) -> Asked {
        let mut ones = Vec::new();
        while let Some(Place::One(one)) = self.by_prefix.remove(key, Place::is_known) {
            ones.push(one);
        }
        ones.sort_unstable_by_key(|one| one.number);
        let mut group = Group {
            prefix: prefix.into(),
            whole: Vec::new(),
            many: Many::default(),
            len: 0,
        };
        let mut dropped = Asked::new();
        for one in ones {
            if let Some(program) = &one.program {
                group.insert(one.number, program);
            }
            dropped.push((one.number, one.pattern));
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).expect("they fit in memory")
        });
        self.groups[at as usize] = Some(group);
        self.by_prefix.insert(prefix, Place::Many(at));
        dropped
    }

    /// Takes a pattern out. What is given back is to be dropped without a lock.
    pub(crate) fn remove(
        &mut self,
        number: u64,
        place: &PatternPlace,
    ) -> Option<Arc<dyn TopicPattern>> {
        let key = place.prefix;
        let is_it = |it: &Place| matches!(it, Place::One(one) if one.number == number);
        if let Some(Place::One(one)) = self.by_prefix.remove(key, is_it) {
            return Some(one.pattern);
        }
        let at = self.by_prefix.at(key).find_map(|it| match it {
            Place::Many(group) => Some(*group),
            Place::One(_) => None,
        })?;
        let group = self.groups.get_mut(at as usize)?;
        group.as_mut()?.remove(number, place.suffix.as_deref());
        if group.as_ref().is_some_and(|group| group.len == 0) {
            *group = None;
            self.free.push(at);
            let is_it = |it: &Place| matches!(it, Place::Many(group) if *group == at);
            self.by_prefix.remove(key, is_it);
        }
        None
    }

    /// Nothing more is added.
    pub(crate) fn settle(&mut self) {
        self.by_prefix.for_each(|place| {
            if let Place::One(one) = place {
                one.program = None;
            }
        });
    }

    /// Gives back what is allocated for more than `capacity` prefixes.
    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        self.by_prefix.shrink_to(capacity);
        while let Some(None) = self.groups.last() {
            self.groups.pop();
        }
        let len = self.groups.len();
        self.free.retain(|at| (*at as usize) < len);
        self.groups.shrink_to(capacity);
        self.free.shrink_to(capacity);
    }

    /// Adds the numbers of those that mean the topic, and those that have to be asked themselves. Whether it had to look at
    /// many, which is worth remembering.
    pub(crate) fn find(
        &self,
        topic: &str,
        scratch: &mut Scratch,
        numbers: &mut Vec<u64>,
        mut ask: impl FnMut(u64, &Arc<dyn TopicPattern>),
    ) -> bool {
        let mut had_many = false;
        for place in self.by_prefix.of(topic) {
            let group = match place {
                Place::One(one) => {
                    ask(one.number, &one.pattern);
                    continue;
                }
                Place::Many(at) => self.groups.get(*at as usize),
            };
            // Hashes may collide.
            if let Some(Some(group)) = group
                && let Some(rest) = topic.strip_prefix(&*group.prefix)
            {
                numbers.extend(&group.whole);
                group.many.find(rest, scratch, numbers);
                had_many = true;
            }
        }
        had_many
    }
}

impl Place {
    /// A pattern that can be asked together with others.
    fn is_known(&self) -> bool {
        matches!(self, Self::One(one) if one.program.is_some())
    }
}

impl Many {
    fn insert(&mut self, number: u64, program: &Program) {
        let Some(suffix) = program.suffix() else {
            return self.others.insert(number, program);
        };
        let endings = self.by_suffix.entry(suffix.len()).or_default();
        let ending = endings.entry(suffix.into()).or_default();
        ending.len += 1;
        if program.is_suffix() {
            ending.whole.push(number);
        } else {
            ending.others.insert(number, program);
        }
    }

    fn remove(&mut self, number: u64, suffix: Option<&str>) -> bool {
        let Some(suffix) = suffix else {
            return self.others.remove(number);
        };
        let Some(endings) = self.by_suffix.get_mut(&suffix.len()) else {
            return false;
        };
        let Some(ending) = endings.get_mut(suffix) else {
            return false;
        };
        let is_removed = match ending.whole.binary_search(&number) {
            Ok(at) => {
                ending.whole.remove(at);
                true
            }
            Err(_) => ending.others.remove(number),
        };
        ending.len -= usize::from(is_removed);
        if ending.len == 0 {
            endings.remove(suffix);
            if endings.is_empty() {
                self.by_suffix.remove(&suffix.len());
            }
        }
        is_removed
    }

    fn find(&self, rest: &str, scratch: &mut Scratch, numbers: &mut Vec<u64>) {
        for (&len, endings) in &self.by_suffix {
            let Some(start) = rest.len().checked_sub(len) else {
                break;
            };
            let suffix = rest.get(start..);
            if let Some(ending) = suffix.and_then(|suffix| endings.get(suffix)) {
                numbers.extend(&ending.whole);
                ending.others.find(rest, scratch, numbers);
            }
        }
        self.others.find(rest, scratch, numbers);
    }
}

impl Group {
    fn insert(&mut self, number: u64, program: &Program) {
        self.len += 1;
        if program.is_whole() {
            self.whole.push(number);
        } else {
            self.many.insert(number, program);
        }
    }

    fn remove(&mut self, number: u64, suffix: Option<&str>) {
        let is_removed = match self.whole.binary_search(&number) {
            Ok(at) => {
                self.whole.remove(at);
                true
            }
            Err(_) => self.many.remove(number, suffix),
        };
        self.len -= usize::from(is_removed);
    }
}

/// From here on patterns of one prefix are asked all at once. A stated guess: fewer are as quick one by one, and take less
/// memory.
const MANY: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        PatternPart,
        automaton::tests::{naive, parts},
    };

    #[derive(Debug)]
    struct Parts(Vec<PatternPart<'static>>);

    impl TopicPattern for Parts {
        fn matches(&self, topic: &str) -> bool {
            naive(&self.0, topic)
        }

        fn as_str(&self) -> &str {
            "of parts"
        }

        fn literal_prefix(&self) -> &str {
            match self.0.first() {
                Some(PatternPart::Literal(text)) => text,
                _ => "",
            }
        }

        fn parts(&self) -> Option<Vec<PatternPart<'_>>> {
            Some(self.0.clone())
        }
    }

    fn found(index: &PatternIndex, topic: &str) -> Vec<u64> {
        let (mut numbers, mut asked) = (Vec::new(), Vec::new());
        index.find(
            topic,
            &mut Scratch::default(),
            &mut numbers,
            |number, it| {
                asked.extend(it.matches(topic).then_some(number));
            },
        );
        numbers.append(&mut asked);
        numbers.sort_unstable();
        numbers
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// They come, are put together once they are many, and go again.
        #[test]
        fn it_finds_those_that_each_alone_means_the_topic(
            patterns in prop::collection::vec((parts(), any::<bool>()), 1..60),
            texts in prop::collection::vec("[ab/é]{0,5}", 6),
        ) {
            let mut index = PatternIndex::default();
            let mut live: Vec<(u64, Arc<dyn TopicPattern>, PatternPlace)> = Vec::new();
            let check = |index: &PatternIndex, live: &[(u64, Arc<dyn TopicPattern>, _)]| {
                for text in &texts {
                    let expected = live.iter().filter(|(_, it, _)| it.matches(text));
                    let expected: Vec<u64> = expected.map(|(number, ..)| *number).collect();
                    assert_eq!(found(index, text), expected, "{text:?}");
                }
            };
            for (number, (parts, takes_one)) in (1..).zip(patterns) {
                let pattern: Arc<dyn TopicPattern> = Arc::new(Parts(parts));
                let prepared = Prepared::new(&pattern);
                let (place, _) = index.insert(number, pattern.literal_prefix(), prepared);
                live.push((number, pattern, place));
                if takes_one {
                    let (number, _, place) = live.remove(number as usize * 7 % live.len());
                    index.remove(number, &place);
                }
            }
            check(&index, &live);
            while let Some((number, _, place)) = live.pop() {
                index.remove(number, &place);
                if live.len().is_multiple_of(8) {
                    check(&index, &live);
                }
            }
            let nothing = texts.iter().all(|text| index.by_prefix.of(text).next().is_none());
            prop_assert!(nothing && index.groups.iter().all(Option::is_none), "something is left");
        }
    }
}
