//! Topics by pattern: the part of the URL Pattern standard that is useful for topics, without regular expressions.
//!
//! ```text
//! pattern  = { literal | "\" char | wildcard [ modifier ] | group [ modifier ] }
//! wildcard = "*" | ":" name
//! group    = "{" { literal | "\" char } [ wildcard ] { literal | "\" char } "}"
//! modifier = "?" | "+" | "*"
//! ```
//!
//! `*` is any text, also none and also with `/`. `:name` is one character or more without `/`. A modifier says
//! that what stands before it may be missing (`?`), be repeated (`+`) or both (`*`). A `/` directly before a
//! wildcard with a modifier belongs to it: `books/:id?` means `books` and `books/7`. Only a whole segment can be
//! repeated, because then no loop is needed: `files/:path+` means `files/a` and `files/a/b`.
//!
//! A `:` begins a name where the standard's identifier follows it and no letter, digit, `_` or `:` stands before it, so
//! that `urn:uuid:*` and `room:lobby` mean what they say. In a group it always does: `v{:major}`.
//!
//! # Cost
//!
//! Anyone may send a pattern, so nothing here depends on luck. Compiling takes time linear in the text, and a
//! compiled pattern holds at most six bytes for a byte of the text beside its own fixed size. Matching walks
//! through the pattern once, with the set of places in the topic that it can have reached: for each part of the
//! pattern one pass over the topic, and no way back. A pattern has [`MAX_WILDCARDS`] wildcards and groups at most. The pool asks
//! many patterns at once, by their [parts](sse_pool::TopicPattern::parts).

use std::fmt;

use sse_broker::Topic;
use sse_pool::PatternPart;

/// A pattern of topics.
///
/// ```
/// use sse_server::Pattern;
///
/// let chat = Pattern::new("room/:id/chat")?;
/// assert!(chat.is_match("room/7/chat"));
/// assert!(!chat.is_match("room/7/8/chat"));
/// # Ok::<(), sse_server::InvalidPattern>(())
/// ```
pub struct Pattern {
    text: Box<str>,
    /// The text of all literals, in order.
    literals: Box<str>,
    parts: Box<[Part]>,
    /// How many bytes at the end of the literals each topic ends with that is meant.
    suffix_len: u16,
}

/// A text is not a valid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid pattern: {0}")]
pub struct InvalidPattern(String);

/// How many wildcards and groups a pattern may have. A stated guess: more than any name of a topic has segments that vary.
const MAX_WILDCARDS: usize = 32;

/// A step of the match. It takes a set of places in the topic to the set of those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// So many bytes of [`Pattern::literals`].
    Literal(u16),
    /// `*`
    Any,
    /// `:name`
    Segment,
    /// `/:name+`: a segment with the `/` before it, once or more.
    Segments,
    /// The next so many parts may be left out.
    Optional(u16),
}

/// Whether a selected topic is meant as a pattern: it holds `*`, `{`, `(`, or a `:name`.
#[must_use]
pub fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '{', '('])
        || topic
            .match_indices(':')
            .any(|(at, _)| name_len(topic, at).is_some())
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// When the text is longer than a topic may be, or is not a valid pattern.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > Topic::MAX_BYTES {
            return Err(InvalidPattern(format!(
                "it has more than {} bytes",
                Topic::MAX_BYTES
            )));
        }
        let mut compiler = Compiler {
            text,
            rest: text,
            ..Compiler::default()
        };
        compiler.run().map_err(InvalidPattern)?;
        compiler.end_literal();
        let suffix_len = match compiler.parts.last() {
            Some(Part::Literal(len)) if compiler.optional_end < compiler.parts.len() => *len,
            _ => 0,
        };
        Ok(Self {
            text: text.into(),
            literals: compiler.literals.into(),
            parts: compiler.parts.into(),
            suffix_len,
        })
    }

    /// Whether it means a topic. Nothing that is longer than a topic may be is meant.
    #[must_use]
    pub fn is_match(&self, topic: &str) -> bool {
        let prefix = self.literal_prefix();
        if topic.len() > Topic::MAX_BYTES || !topic.starts_with(prefix) {
            return false;
        }
        let mut parts = &self.parts[..];
        if let [Part::Literal(_), rest @ ..] = parts {
            parts = rest;
        }
        match parts {
            [] => return topic.len() == prefix.len(),
            [Part::Any] => return true,
            _ => {}
        }
        let suffix = &self.literals[self.literals.len() - usize::from(self.suffix_len)..];
        if !topic.ends_with(suffix) {
            return false;
        }
        let mut places = Places::default();
        places.insert(prefix.len());
        let places = self.walk(parts, prefix.len(), places, topic);
        places.contains(topic.len())
    }

    /// What each topic that it means begins with.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(len)) => &self.literals[..usize::from(*len)],
            _ => "",
        }
    }

    /// The places behind `parts`, whose literals begin at `literal`.
    fn walk(&self, parts: &[Part], mut literal: usize, mut places: Places, topic: &str) -> Places {
        let mut at = 0;
        // Where a group that may be left out ends, and the places before it.
        let mut skipped: Option<(usize, Places)> = None;
        while let Some(part) = parts.get(at) {
            at += 1;
            match *part {
                Part::Literal(len) => {
                    let end = literal + usize::from(len);
                    places = places.behind(&self.literals[literal..end], topic);
                    literal = end;
                }
                Part::Any => places = places.behind_any(topic),
                Part::Segment => places = places.behind_segment(topic),
                Part::Segments => places = places.behind_segments(topic),
                Part::Optional(len) => skipped = Some((at + usize::from(len), places.clone())),
            }
            if let Some((_, before)) = skipped.take_if(|(end, _)| *end <= at) {
                places.extend(&before);
            }
            if places.is_empty() && skipped.is_none() {
                break;
            }
        }
        places
    }
}

/// A set of places in a topic, each between two characters.
#[derive(Clone, Default)]
struct Places {
    words: [u64; Topic::MAX_BYTES / 64 + 1],
}

impl Places {
    fn insert(&mut self, place: usize) {
        self.words[place / 64] |= 1 << (place % 64);
    }

    fn contains(&self, place: usize) -> bool {
        self.words[place / 64] & 1 << (place % 64) != 0
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    fn extend(&mut self, more: &Self) {
        for (word, more) in self.words.iter_mut().zip(&more.words) {
            *word |= more;
        }
    }

    /// The places from low to high.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(n, &word)| {
            let rest = std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
            rest.take_while(|word| *word != 0)
                .map(move |word| n * 64 + word.trailing_zeros() as usize)
        })
    }

    fn behind(&self, literal: &str, topic: &str) -> Self {
        let mut next = Self::default();
        let topic = topic.as_bytes();
        for place in self.iter() {
            if topic[place..].starts_with(literal.as_bytes()) {
                next.insert(place + literal.len());
            }
        }
        next
    }

    fn behind_any(&self, topic: &str) -> Self {
        let mut next = Self::default();
        if let Some(first) = self.iter().next() {
            let places = (first..=topic.len()).filter(|place| topic.is_char_boundary(*place));
            places.for_each(|place| next.insert(place));
        }
        next
    }

    fn behind_segment(&self, topic: &str) -> Self {
        let mut next = Self::default();
        let Some(first) = self.iter().next() else {
            return next;
        };
        // Whether one of the places lies before this byte in its segment.
        let mut is_open = false;
        for place in first..=topic.len() {
            if is_open && topic.is_char_boundary(place) {
                next.insert(place);
            }
            is_open |= self.contains(place);
            is_open &= topic.as_bytes().get(place) != Some(&b'/');
        }
        next
    }

    fn behind_segments(&self, topic: &str) -> Self {
        let mut next = Self::default();
        let Some(first) = self.iter().next() else {
            return next;
        };
        // Whether a segment that was begun has nothing yet, or something.
        let (mut is_begun, mut is_open) = (false, false);
        for place in first..=topic.len() {
            if is_open && topic.is_char_boundary(place) {
                next.insert(place);
            }
            (is_begun, is_open) = match topic.as_bytes().get(place) {
                Some(b'/') => (is_open || self.contains(place), false),
                _ => (false, is_begun || is_open),
            };
        }
        next
    }
}

#[derive(Default)]
struct Compiler<'t> {
    text: &'t str,
    /// What has not been read.
    rest: &'t str,
    is_in_group: bool,
    literals: String,
    /// Where in them the literal begins that is being read.
    literal_start: usize,
    /// Whether the last character of that literal may be the `/` of a wildcard.
    ends_in_slash: bool,
    parts: Vec<Part>,
    /// Where the last group ends that may be left out.
    optional_end: usize,
    wildcards: usize,
}

/// A wildcard, or what stands in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    Any,
    Segment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Modifier {
    None,
    Optional,
    Repeated,
    OptionalRepeated,
}

impl Compiler<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(next) = self.rest.chars().next() {
            if let Some(wildcard) = self.wildcard()? {
                let modifier = self.modifier();
                // Only where there is a modifier it matters whose the `/` is.
                let has_slash = modifier != Modifier::None && self.ends_in_slash;
                if has_slash {
                    self.literals.pop();
                }
                self.end_literal();
                self.group(
                    if has_slash { "/" } else { "" },
                    Some(wildcard),
                    "",
                    modifier,
                )?;
            } else if next == '{' {
                self.count_wildcard()?;
                self.rest = &self.rest[1..];
                self.is_in_group = true;
                let prefix = self.group_text()?;
                let wildcard = self.wildcard()?;
                let suffix = self.group_text()?;
                self.is_in_group = false;
                match self.rest.strip_prefix('}') {
                    Some(rest) => self.rest = rest,
                    None if self.rest.is_empty() => {
                        return Err("a `{` has no `}`; write `\\{` for the character itself".into());
                    }
                    None if self.rest.starts_with('{') => {
                        return Err("a group stands in a group, which is not supported".into());
                    }
                    None => return Err("a `{…}` group holds more than one wildcard".into()),
                }
                let modifier = self.modifier();
                if modifier != Modifier::None {
                    self.end_literal();
                }
                self.group(&prefix, wildcard, &suffix, modifier)?;
            } else if next == '}' {
                return Err("a `}` has no `{`; write `\\}` for the character itself".into());
            } else {
                let char = self.char()?;
                self.literals.push(char);
                self.ends_in_slash = next == '/';
            }
        }
        Ok(())
    }

    /// The next character as it stands, or the one that is escaped.
    fn char(&mut self) -> Result<char, String> {
        let mut chars = self.rest.chars();
        let char = match chars.next() {
            Some('\\') => chars
                .next()
                .ok_or("it ends in `\\`; write `\\\\` for the character itself")?,
            Some('(') => {
                return Err("regular expressions are not supported; write `:name` for one segment, `*` for any text, or \
                            `\\(` for the character itself"
                    .into());
            }
            Some(char) => char,
            None => return Err("it ends too early".into()),
        };
        self.rest = chars.as_str();
        Ok(char)
    }

    /// The literal text in a group, up to what is none.
    fn group_text(&mut self) -> Result<String, String> {
        let mut literal = String::new();
        while let Some(next) = self.rest.chars().next() {
            if matches!(next, '{' | '}' | '*') || self.name_len().is_some() {
                break;
            }
            literal.push(self.char()?);
        }
        Ok(literal)
    }

    /// A wildcard, if there is one next.
    fn wildcard(&mut self) -> Result<Option<Wildcard>, String> {
        let (wildcard, len) = if self.rest.starts_with('*') {
            (Wildcard::Any, 1)
        } else if let Some(len) = self.name_len() {
            (Wildcard::Segment, len)
        } else {
            return Ok(None);
        };
        self.count_wildcard()?;
        self.rest = &self.rest[len..];
        Ok(Some(wildcard))
    }

    fn name_len(&self) -> Option<usize> {
        if self.is_in_group {
            return name_len(self.rest, 0);
        }
        name_len(self.text, self.text.len() - self.rest.len())
    }

    fn count_wildcard(&mut self) -> Result<(), String> {
        self.wildcards += 1;
        if self.wildcards > MAX_WILDCARDS {
            return Err(format!(
                "it has more than {MAX_WILDCARDS} wildcards and groups"
            ));
        }
        Ok(())
    }

    fn modifier(&mut self) -> Modifier {
        let modifier = match self.rest.as_bytes().first() {
            Some(b'?') => Modifier::Optional,
            Some(b'+') => Modifier::Repeated,
            Some(b'*') => Modifier::OptionalRepeated,
            _ => return Modifier::None,
        };
        self.rest = &self.rest[1..];
        modifier
    }

    /// Puts what is optional, repeated or neither behind the parts.
    fn group(
        &mut self,
        prefix: &str,
        wildcard: Option<Wildcard>,
        suffix: &str,
        modifier: Modifier,
    ) -> Result<(), String> {
        let is_repeated = matches!(modifier, Modifier::Repeated | Modifier::OptionalRepeated);
        let is_segments =
            is_repeated && (prefix, wildcard, suffix) == ("/", Some(Wildcard::Segment), "");
        // What holds `*` means nothing more when it is repeated, and neither does a name alone.
        let is_loopless = is_segments
            || wildcard == Some(Wildcard::Any)
            || prefix.is_empty() && suffix.is_empty();
        if is_repeated && !is_loopless {
            return Err(
                "only a whole segment can be repeated; write `/:name+`, or `*` for any text".into(),
            );
        }
        let optional = matches!(modifier, Modifier::Optional | Modifier::OptionalRepeated);
        let start = self.parts.len();
        if optional {
            self.parts.push(Part::Optional(0));
        }
        if is_segments {
            self.parts.push(Part::Segments);
        } else {
            self.literals.push_str(prefix);
            if let Some(wildcard) = wildcard {
                self.end_literal();
                self.parts.push(match wildcard {
                    Wildcard::Any => Part::Any,
                    Wildcard::Segment => Part::Segment,
                });
            }
            self.literals.push_str(suffix);
        }
        if optional {
            self.end_literal();
            // At most a literal, a wildcard and a literal.
            let len = u16::try_from(self.parts.len() - start - 1).unwrap_or(u16::MAX);
            self.parts[start] = Part::Optional(len);
            self.optional_end = self.parts.len();
        }
        self.ends_in_slash = false;
        Ok(())
    }

    /// Makes a part of the literal that was read, if there is one.
    fn end_literal(&mut self) {
        let len = self.literals.len() - self.literal_start;
        if len > 0 {
            // No text is longer than a topic.
            self.parts
                .push(Part::Literal(u16::try_from(len).unwrap_or(u16::MAX)));
        }
        self.literal_start = self.literals.len();
        self.ends_in_slash = false;
    }
}

/// The length of the `:name` that begins at a byte of the text, if there is one.
fn name_len(text: &str, at: usize) -> Option<usize> {
    let name = text[at..].strip_prefix(':')?;
    let continues =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '\u{200c}' | '\u{200d}');
    let begins = |c: char| c.is_alphabetic() || matches!(c, '_' | '$');
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    if !name.starts_with(begins) || text[..at].ends_with(is_word) {
        return None;
    }
    Some(1 + name.find(|c| !continues(c)).unwrap_or(name.len()))
}

impl sse_pool::TopicPattern for Pattern {
    fn matches(&self, topic: &str) -> bool {
        self.is_match(topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }

    fn literal_prefix(&self) -> &str {
        self.literal_prefix()
    }

    fn parts(&self) -> Option<Vec<PatternPart<'_>>> {
        let mut literal = 0;
        let parts = self.parts.iter().map(|part| match *part {
            Part::Literal(len) => {
                let start = literal;
                literal += usize::from(len);
                PatternPart::Literal(&self.literals[start..literal])
            }
            Part::Any => PatternPart::Any,
            Part::Segment => PatternPart::Segment,
            Part::Segments => PatternPart::Segments,
            Part::Optional(len) => PatternPart::Optional(usize::from(len)),
        });
        Some(parts.collect())
    }
}

/// The log's rules and scopes speak of topics in the same patterns as readers do.
impl sse_broker::TopicPattern for Pattern {
    fn matches(&self, topic: &str) -> bool {
        self.is_match(topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
