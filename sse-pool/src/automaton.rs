//! Many patterns asked at once: one walk over the topic, with a bit for each place in each pattern.
//!
//! A pattern of `n` parts is a chain of states, and a state is a bit; the patterns lie one behind the other. The bits that are set
//! after a few characters of the topic say which beginnings of which patterns mean these characters:
//!
//! ```text
//!   */x     (*)──/x──▶((end))          * stays at any character, and may be left at once
//!   :a/b    (:a)─c─▶(in)──/b──▶((end)) a name takes one character that is no `/`, then stays at others
//! ```
//!
//! A step is a few operations on words of 64 bits, whatever the patterns are. A literal is one state however long it is: which
//! literals the rest of the topic begins with is found by hashes of its pieces, and a literal that is found sets its bits
//! behind it, at the place where it ends. So a walk costs the topic's length times a 64th of the patterns' parts, plus a look-up
//! for each length that one of the literals has.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use hashbrown::HashTable;

use crate::PatternPart;

/// What a pattern is made of, behind its literal prefix.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The text of all literals, in order.
    literals: Box<str>,
    steps: Box<[Step]>,
    /// The last step may not be left out.
    is_end_certain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Literal(u32),
    Any,
    Segment,
    Segments,
    /// So many states may be left out.
    Optional(u32),
}

impl Program {
    /// `None` when the parts are none that an automaton can have.
    pub(crate) fn new(parts: &[PatternPart<'_>], prefix: &str) -> Option<Self> {
        let rest = match parts {
            [PatternPart::Literal(first), rest @ ..] if *first == prefix => rest,
            parts if prefix.is_empty() => parts,
            _ => return None,
        };
        let mut literals = String::new();
        let mut steps = Vec::with_capacity(rest.len());
        let mut optional_end = 0;
        for (at, part) in rest.iter().enumerate() {
            steps.push(match *part {
                PatternPart::Literal(text) => {
                    literals.push_str(text);
                    Step::Literal(u32::try_from(text.len()).ok()?)
                }
                PatternPart::Any => Step::Any,
                PatternPart::Segment => Step::Segment,
                PatternPart::Segments => Step::Segments,
                PatternPart::Optional(len) => {
                    let group = rest.get(at + 1..at + 1 + len)?;
                    optional_end = at + 1 + len;
                    let states = group.iter().map(states_of).sum::<Option<u32>>()?;
                    if !(1..=MAX_SKIPPED).contains(&states) {
                        return None;
                    }
                    Step::Optional(states)
                }
            });
        }
        Some(Self {
            literals: literals.into(),
            is_end_certain: optional_end < steps.len(),
            steps: steps.into(),
        })
    }

    /// Whether it means every text.
    pub(crate) fn is_whole(&self) -> bool {
        *self.steps == [Step::Any]
    }

    /// Whether it means every text that ends in its [`suffix`](Self::suffix).
    pub(crate) fn is_suffix(&self) -> bool {
        matches!(*self.steps, [Step::Any, Step::Literal(_)])
    }

    /// What every text ends in that it means, if it says.
    pub(crate) fn suffix(&self) -> Option<&str> {
        let Some(Step::Literal(len)) = self.steps.last() else {
            return None;
        };
        if !self.is_end_certain {
            return None;
        }
        let start = self.literals.len() - *len as usize;
        self.literals.get(start..)
    }
}

/// `None` for what cannot stand in a group.
fn states_of(part: &PatternPart<'_>) -> Option<u32> {
    match part {
        PatternPart::Literal(_) | PatternPart::Any => Some(1),
        PatternPart::Segment => Some(2),
        PatternPart::Segments => Some(3),
        PatternPart::Optional(_) => None,
    }
}

/// The states of many patterns.
#[derive(Debug, Default)]
pub(crate) struct Automaton {
    words: Vec<Word>,
    states: usize,
    /// How many of them are of patterns that are gone.
    dead: usize,
    /// The patterns in their order, which is that of their numbers.
    patterns: Vec<Pattern>,
    literals: Literals,
}

#[derive(Clone, Copy, Debug)]
struct Pattern {
    number: u64,
    first: usize,
    /// The state behind its last part.
    end: usize,
    is_dead: bool,
}

/// What 64 states are.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// A pattern begins here.
    first: u64,
    /// And ends here.
    end: u64,
    /// `*`
    any: u64,
    /// Before the first character of a name.
    begin: u64,
    /// Behind a character of a name.
    inside: u64,
    /// Before the `/` of segments that are repeated.
    slash: u64,
    /// Behind a character of such a segment: the next one may begin.
    again: u64,
    /// Before a literal.
    literal: u64,
    /// Before what may be left out: this state may be left for the next one, and for that behind the next one, two, three or four.
    enter: u64,
    skip: [u64; MAX_SKIPPED as usize],
}

impl Word {
    /// Adds the states that can be reached without a character. What goes beyond this word is for the next one.
    fn close(&self, mut states: u64) -> (u64, u64) {
        let [two, three, four, five] = self.skip;
        let one = self.enter | self.any | self.inside;
        loop {
            let more = (states & one) << 1
                | (states & two) << 2
                | (states & three) << 3
                | (states & four) << 4
                | (states & five) << 5;
            if more & !states == 0 {
                break;
            }
            states |= more;
        }
        let beyond = (states & one) >> 63
            | (states & two) >> 62
            | (states & three) >> 61
            | (states & four) >> 60
            | (states & five) >> 59;
        (states, beyond)
    }

    fn masks(&mut self) -> [&mut u64; MASKS] {
        let [two, three, four, five] = &mut self.skip;
        [
            &mut self.first,
            &mut self.end,
            &mut self.any,
            &mut self.begin,
            &mut self.inside,
            &mut self.slash,
            &mut self.again,
            &mut self.literal,
            &mut self.enter,
            two,
            three,
            four,
            five,
        ]
    }
}

/// The literals of all patterns, each once, by their hash.
#[derive(Debug, Default)]
struct Literals {
    table: HashTable<Literal>,
    /// How many have this length.
    lengths: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Literal {
    hash: u64,
    text: Box<str>,
    /// The states before it: which word, which of its bits.
    before: Vec<(usize, u64)>,
}

/// What a walk needs; kept for its capacity.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    now: Vec<u64>,
    next: Vec<u64>,
    /// What is reached at a later place of the topic.
    later: BTreeMap<usize, Vec<u64>>,
    spare: Vec<Vec<u64>>,
    hashes: Hashes,
}

impl Automaton {
    /// Adds a pattern; its number is larger than those before.
    pub(crate) fn insert(&mut self, number: u64, program: &Program) {
        let first = self.states;
        let mut literal_start = 0;
        for &step in &program.steps {
            match step {
                Step::Literal(len) => {
                    let end = literal_start + len as usize;
                    let state = self.push(|word| &mut word.literal);
                    let text = program.literals.get(literal_start..end);
                    self.literals.insert(text.unwrap_or_default(), state);
                    literal_start = end;
                }
                Step::Any => {
                    self.push(|word| &mut word.any);
                }
                Step::Segment => {
                    self.push(|word| &mut word.begin);
                    self.push(|word| &mut word.inside);
                }
                Step::Segments => {
                    self.push(|word| &mut word.slash);
                    self.push(|word| &mut word.begin);
                    let inside = self.push(|word| &mut word.inside);
                    self.words[inside / 64].again |= 1 << (inside % 64);
                }
                Step::Optional(states) => {
                    let state = self.push(|word| &mut word.enter);
                    self.words[state / 64].skip[states as usize - 1] |= 1 << (state % 64);
                }
            }
        }
        let end = self.push(|word| &mut word.end);
        self.words[first / 64].first |= 1 << (first % 64);
        self.patterns.push(Pattern {
            number,
            first,
            end,
            is_dead: false,
        });
    }

    /// Takes a pattern out; false when it is not there.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        let found = self.patterns.binary_search_by_key(&number, |it| it.number);
        let Some(pattern) = found.ok().and_then(|at| self.patterns.get_mut(at)) else {
            return false;
        };
        if std::mem::replace(&mut pattern.is_dead, true) {
            return false;
        }
        let Pattern { first, end, .. } = *pattern;
        self.words[first / 64].first &= !(1 << (first % 64));
        self.dead += end + 1 - first;
        if self.dead * 2 > self.states {
            self.compact();
        }
        true
    }

    /// Adds the numbers of the patterns that mean `text`.
    pub(crate) fn find(&self, text: &str, scratch: &mut Scratch, numbers: &mut Vec<u64>) {
        let Scratch {
            now,
            next,
            later,
            spare,
            hashes,
        } = scratch;
        if self.states == self.dead {
            return;
        }
        hashes.read(text);
        now.clear();
        now.extend(self.words.iter().map(|word| word.first));
        self.close(now);
        let mut at = 0;
        while let Some(char) = text.get(at..).and_then(|rest| rest.chars().next()) {
            if self.waits_for_literal(now) {
                self.find_literals(text, at, now, later, spare, hashes);
            }
            at += char.len_utf8();
            next.clear();
            next.resize(self.words.len(), 0);
            self.step(char, now, next);
            if let Some(reached) = later.remove(&at) {
                next.iter_mut().zip(&reached).for_each(|(a, b)| *a |= b);
                spare.push(reached);
            }
            self.close(next);
            std::mem::swap(now, next);
            if later.is_empty() && now.iter().all(|states| *states == 0) {
                return;
            }
        }
        for (n, (states, word)) in now.iter().zip(&self.words).enumerate() {
            let mut ends = states & word.end;
            while ends != 0 {
                let end = n * 64 + ends.trailing_zeros() as usize;
                let found = self.patterns.binary_search_by_key(&end, |it| it.end);
                numbers.extend(found.ok().map(|at| self.patterns[at].number));
                ends &= ends - 1;
            }
        }
    }

    fn push(&mut self, mask: impl FnOnce(&mut Word) -> &mut u64) -> usize {
        let state = self.states;
        self.states += 1;
        self.reach(state / 64);
        *mask(&mut self.words[state / 64]) |= 1 << (state % 64);
        state
    }

    fn reach(&mut self, word: usize) {
        if word >= self.words.len() {
            self.words.push(Word::default());
        }
    }

    fn close(&self, states: &mut [u64]) {
        let mut beyond = 0;
        for (states, word) in states.iter_mut().zip(&self.words) {
            let begun = *states | beyond;
            beyond = 0;
            if begun != 0 {
                (*states, beyond) = word.close(begun);
            }
        }
    }

    fn step(&self, char: char, now: &[u64], next: &mut [u64]) {
        let is_slash = char == '/';
        for (n, (&states, word)) in now.iter().zip(&self.words).enumerate() {
            if states == 0 {
                continue;
            }
            let mut stays = states & word.any;
            let forward = if is_slash {
                let back = states & word.again;
                stays |= back >> 1;
                if back & 1 != 0 {
                    next[n - 1] |= 1 << 63;
                }
                states & word.slash
            } else {
                stays |= states & word.inside;
                states & word.begin
            };
            next[n] |= stays | forward << 1;
            if forward >> 63 != 0 {
                next[n + 1] |= 1;
            }
        }
    }

    fn waits_for_literal(&self, now: &[u64]) -> bool {
        let mut words = now.iter().zip(&self.words);
        words.any(|(states, word)| states & word.literal != 0)
    }

    /// Where literals that begin here end, the states behind them are reached.
    fn find_literals(
        &self,
        text: &str,
        at: usize,
        now: &[u64],
        later: &mut BTreeMap<usize, Vec<u64>>,
        spare: &mut Vec<Vec<u64>>,
        hashes: &Hashes,
    ) {
        for &len in self.literals.lengths.keys() {
            let Some(piece) = text.as_bytes().get(at..at + len) else {
                break;
            };
            let hash = hashes.of(at, len);
            let is_it = |it: &Literal| it.hash == hash && it.text.as_bytes() == piece;
            let Some(literal) = self.literals.table.find(hash, is_it) else {
                continue;
            };
            for &(n, before) in &literal.before {
                let before = now[n] & before;
                if before == 0 {
                    continue;
                }
                let reached = later.entry(at + len).or_insert_with(|| {
                    let mut states = spare.pop().unwrap_or_default();
                    states.clear();
                    states.resize(self.words.len(), 0);
                    states
                });
                reached[n] |= before << 1;
                if before >> 63 != 0 {
                    reached[n + 1] |= 1;
                }
            }
        }
    }

    /// Leaves out the patterns that are gone.
    fn compact(&mut self) {
        let mut old = std::mem::take(self);
        for pattern in old.patterns.iter().filter(|it| !it.is_dead) {
            let first = self.states;
            for state in pattern.first..=pattern.end {
                let now = self.states;
                self.states += 1;
                self.reach(now / 64);
                let masks = old.words[state / 64].masks();
                for (from, to) in masks.into_iter().zip(self.words[now / 64].masks()) {
                    *to |= (*from >> (state % 64) & 1) << (now % 64);
                }
            }
            self.patterns.push(Pattern {
                first,
                end: self.states - 1,
                ..*pattern
            });
        }
        let mut live = old.patterns.iter().filter(|it| !it.is_dead);
        let moved: Vec<(Pattern, usize)> = live
            .by_ref()
            .zip(&self.patterns)
            .map(|(before, now)| (*before, now.first))
            .collect();
        for literal in old.literals.table {
            for (n, mut before) in literal.before {
                while before != 0 {
                    let state = n * 64 + before.trailing_zeros() as usize;
                    before &= before - 1;
                    let at = moved.partition_point(|(it, _)| it.end < state);
                    if let Some((pattern, first)) = moved.get(at)
                        && pattern.first <= state
                    {
                        let now = first + state - pattern.first;
                        self.literals.insert(&literal.text, now);
                    }
                }
            }
        }
    }
}

impl Literals {
    /// Notes that a state, behind all others, is before this literal.
    fn insert(&mut self, text: &str, state: usize) {
        let hash = hash_of(text);
        let is_it = |it: &Literal| it.hash == hash && *it.text == *text;
        let (word, bit) = (state / 64, 1 << (state % 64));
        if let Some(known) = self.table.find_mut(hash, is_it) {
            match known.before.last_mut() {
                Some((last, bits)) if *last == word => *bits |= bit,
                _ => known.before.push((word, bit)),
            }
            return;
        }
        *self.lengths.entry(text.len()).or_default() += 1;
        let literal = Literal {
            hash,
            text: text.into(),
            before: vec![(word, bit)],
        };
        self.table.insert_unique(hash, literal, |it| it.hash);
    }
}

/// Hashes of all pieces of a text: that of a piece is a difference of two beginnings' (Karp and Rabin, 1987), to a base
/// that nobody knows.
#[derive(Debug, Default)]
struct Hashes {
    /// Of the text's beginnings.
    beginnings: Vec<u64>,
    /// The base to the power of each length.
    powers: Vec<u64>,
}

impl Hashes {
    fn read(&mut self, text: &str) {
        self.beginnings.clear();
        self.beginnings.push(0);
        let mut hash = 0;
        for byte in text.bytes() {
            hash = append(hash, byte);
            self.beginnings.push(hash);
        }
        if self.powers.is_empty() {
            self.powers.push(1);
        }
        while self.powers.len() <= text.len() {
            let last = self.powers[self.powers.len() - 1];
            self.powers.push(times(last, *BASE));
        }
    }

    fn of(&self, at: usize, len: usize) -> u64 {
        let before = times(self.beginnings[at], self.powers[len]);
        let hash = self.beginnings[at + len] + PRIME - before;
        if hash >= PRIME { hash - PRIME } else { hash }
    }
}

fn hash_of(text: &str) -> u64 {
    text.bytes().fold(0, append)
}

fn append(hash: u64, byte: u8) -> u64 {
    let sum = times(hash, *BASE) + u64::from(byte) + 1;
    if sum >= PRIME { sum - PRIME } else { sum }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves are below 2^62"
)]
fn times(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let sum = (product as u64 & PRIME) + (product >> 61) as u64;
    if sum >= PRIME { sum - PRIME } else { sum }
}

static BASE: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0) % (PRIME - 512) + 257);
/// A prime, so that two texts have the same hash for few bases only.
const PRIME: u64 = (1 << 61) - 1;
/// As many states a group has that may be left out: a literal, a name and a literal.
const MAX_SKIPPED: u32 = 4;
const MASKS: usize = 13;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Places behind a part, found by trying every one.
    pub(crate) fn naive(parts: &[PatternPart<'_>], text: &str) -> bool {
        let Some((part, rest)) = parts.split_first() else {
            return text.is_empty();
        };
        let cuts = || (0..=text.len()).filter(|at| text.is_char_boundary(*at));
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        match *part {
            PatternPart::Literal(literal) => text
                .strip_prefix(literal)
                .is_some_and(|text| naive(rest, text)),
            PatternPart::Any => cuts().any(|at| naive(rest, &text[at..])),
            PatternPart::Segment => {
                cuts().any(|at| is_name(&text[..at]) && naive(rest, &text[at..]))
            }
            PatternPart::Segments => cuts().any(|at| {
                let segments = text[..at].strip_prefix('/');
                segments.is_some_and(|it| it.split('/').all(is_name)) && naive(rest, &text[at..])
            }),
            PatternPart::Optional(len) => naive(rest, text) || naive(&rest[len..], text),
        }
    }

    fn simple() -> impl Strategy<Value = PatternPart<'static>> {
        prop_oneof![
            3 => prop::sample::select(vec!["/", "a", "/b", "é", "ab", "b/a"]).prop_map(PatternPart::Literal),
            1 => Just(PatternPart::Any),
            2 => Just(PatternPart::Segment),
            1 => Just(PatternPart::Segments),
        ]
    }

    pub(crate) fn parts() -> impl Strategy<Value = Vec<PatternPart<'static>>> {
        let group = prop_oneof![
            4 => simple().prop_map(|part| vec![part]),
            1 => prop::collection::vec(simple(), 1..3).prop_map(|group| {
                let mut parts = vec![PatternPart::Optional(group.len())];
                parts.extend(group);
                parts
            }),
        ];
        prop::collection::vec(group, 0..4).prop_map(|groups| groups.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_what_each_pattern_alone_would(
            patterns in prop::collection::vec(parts(), 1..40),
            gone in prop::collection::vec(any::<bool>(), 40),
            texts in prop::collection::vec("[ab/é]{0,6}", 8),
        ) {
            let mut automaton = Automaton::default();
            let mut live = Vec::new();
            for (number, parts) in (1..).zip(&patterns) {
                if let Some(program) = Program::new(parts, "") {
                    automaton.insert(number, &program);
                    live.push((number, parts));
                }
            }
            let mut scratch = Scratch::default();
            for round in 0..2 {
                for text in &texts {
                    let mut found = Vec::new();
                    automaton.find(text, &mut scratch, &mut found);
                    found.sort_unstable();
                    let expected = live.iter().filter(|(_, parts)| naive(parts, text));
                    let expected: Vec<u64> = expected.map(|(number, _)| *number).collect();
                    prop_assert_eq!(found, expected, "{:?} in round {}", text, round);
                }
                live.retain(|(number, _)| {
                    let is_gone = gone[*number as usize - 1];
                    assert!(!is_gone || automaton.remove(*number));
                    !is_gone
                });
            }
        }
    }

    #[test]
    fn a_piece_has_the_hash_of_the_same_text_alone() {
        let text = "a/é/a/é and more of it";
        let mut hashes = Hashes::default();
        hashes.read(text);
        for at in 0..text.len() {
            for end in at + 1..=text.len() {
                if let Some(piece) = text.get(at..end) {
                    assert_eq!(hashes.of(at, end - at), hash_of(piece), "{piece:?}");
                }
            }
        }
    }
}
