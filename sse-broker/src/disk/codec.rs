//! A record as the disk has it: versioned, checked, and separate from the type we compute with.
//!
//! ```text
//! u64  what all records up to this one weigh together, from the first of the log on
//! u8   version of this layout
//! u8   priority (2 bits), then which of the optional fields follow, in this order
//! u8   whether the data is JSON, and whether its age counts from another time than its publication (since version 2)
//! u64  published at     [u64 expires at]  [u64 retry]  [u64 what its age counts from]
//! [text id]  [text type]  [text label]
//! list of topics        list of owners, who may see it; none for everyone, or for those it is granted to
//! text data
//! u32  CRC-32 of the offset and all the bytes before
//! ```
//!
//! Numbers are little-endian; a text is its length as LEB128 and its bytes, a list its length and its
//! texts. The running weight makes the weight of any stretch of the log a subtraction. The checksum
//! covers the offset, so that a record that turns up in another's place is found out, too.

use std::collections::HashSet;

use sse_protocol::{Event, EventId, EventType, Retry};

use crate::encoding::{Damaged, Rest, Texts, put_number, put_text};
use crate::{
    Audience, AudienceRef, DataKind, NewRecord, Offset, Position, Priority, RecordRef, Topic,
    TopicNames,
};

/// The layout that is written. Readers know this one and all before it.
const VERSION: u8 = 2;

/// The layout without [`IS_GRANTED`] and without the second byte of flags.
const VERSION_1: u8 = 1;

const PRIORITY_BITS: u8 = 0b11;
const HAS_EXPIRES: u8 = 1 << 2;
const HAS_RETRY: u8 = 1 << 3;
const HAS_ID: u8 = 1 << 4;
const HAS_TYPE: u8 = 1 << 5;
const HAS_LABEL: u8 = 1 << 6;
/// Only who was granted one of its topics may see it.
const IS_GRANTED: u8 = 1 << 7;
/// In the second byte: the data is JSON, and not the content of a string.
const IS_JSON: u8 = 1;
/// Its age does not count from its publication.
const HAS_AGES_FROM: u8 = 1 << 1;

const RUNNING_WEIGHT_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// Writes a record, all but its place: [`seal`] adds that.
pub(super) fn encode(record: &NewRecord) -> Vec<u8> {
    let event = &record.event;
    let mut flags = match record.priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    };
    let mut flag = |bit: u8, is_there: bool| flags |= if is_there { bit } else { 0 };
    flag(HAS_EXPIRES, record.expires_at.is_some());
    flag(HAS_RETRY, event.retry.is_some());
    flag(HAS_ID, event.id.is_some());
    flag(HAS_TYPE, event.event_type.is_some());
    flag(HAS_LABEL, record.label.is_some());
    flag(IS_GRANTED, record.audience.is_granted());

    let mut out = Vec::with_capacity(record.weight_bytes());
    out.extend_from_slice(&[0; RUNNING_WEIGHT_BYTES]);
    let mut more_flags = match record.data_kind {
        DataKind::Text => 0,
        DataKind::Json => IS_JSON,
    };
    if record.ages_from.is_some() {
        more_flags |= HAS_AGES_FROM;
    }
    out.extend_from_slice(&[VERSION, flags, more_flags]);
    out.extend_from_slice(&record.published_at.to_le_bytes());
    let retry = event.retry.map(Retry::as_millis);
    for number in [record.expires_at, retry, record.ages_from]
        .into_iter()
        .flatten()
    {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let id = event.id.as_ref().map(EventId::as_str);
    let event_type = event.event_type.as_ref().map(EventType::as_str);
    let label = record.label.as_ref().map(EventType::as_str);
    for text in [id, event_type, label].into_iter().flatten() {
        put_text(&mut out, text);
    }
    for list in [&record.topics[..], record.audience.owners()] {
        put_number(&mut out, list.len() as u64);
        for topic in list {
            put_text(&mut out, topic.as_str());
        }
    }
    put_text(&mut out, &event.data);
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    out
}

/// Gives encoded bytes their place in the log.
pub(super) fn seal(bytes: &mut [u8], offset: Offset, running_weight: u64) {
    if let Some(first) = bytes.first_chunk_mut() {
        *first = running_weight.to_le_bytes();
    }
    let body = bytes.len().saturating_sub(CHECKSUM_BYTES);
    let checksum = checksum(offset, &bytes[..body]);
    if let Some(last) = bytes.last_chunk_mut() {
        *last = checksum.to_le_bytes();
    }
}

fn checksum(offset: Offset, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// A record on disk, checked and taken apart but not copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordView<'a> {
    pub(super) running_weight: u64,
    pub(super) published_at: u64,
    pub(super) id: Option<&'a str>,
    pub(super) topics: Texts<'a>,
    priority: Priority,
    expires_at: Option<u64>,
    retry: Option<u64>,
    pub(super) ages_from: Option<u64>,
    event_type: Option<&'a str>,
    label: Option<&'a str>,
    owners: Texts<'a>,
    is_granted: bool,
    data_kind: DataKind,
    data: &'a str,
}

impl<'a> RecordView<'a> {
    pub(super) fn decode(offset: Offset, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let (body, stored) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Damaged)?;
        if checksum(offset, body) != u32::from_le_bytes(*stored) {
            return Err(Damaged);
        }
        let mut rest = Rest(body);
        let running_weight = rest.u64()?;
        let [version, flags] = *rest.take_array()?;
        let is_granted = flags & IS_GRANTED != 0;
        let is_known = version == VERSION || version == VERSION_1 && !is_granted;
        if !is_known {
            return Err(Damaged);
        }
        let more_flags = match version {
            VERSION_1 => 0,
            _ => rest.take_array::<1>()?[0],
        };
        if more_flags & !(IS_JSON | HAS_AGES_FROM) != 0 {
            return Err(Damaged);
        }
        let data_kind = match more_flags & IS_JSON {
            0 => DataKind::Text,
            _ => DataKind::Json,
        };
        let has = |bit: u8| flags & bit != 0;
        let priority = match flags & PRIORITY_BITS {
            0 => Priority::Low,
            1 => Priority::Normal,
            2 => Priority::High,
            _ => return Err(Damaged),
        };
        Ok(Self {
            running_weight,
            priority,
            published_at: rest.u64()?,
            expires_at: has(HAS_EXPIRES).then(|| rest.u64()).transpose()?,
            retry: has(HAS_RETRY).then(|| rest.u64()).transpose()?,
            ages_from: (more_flags & HAS_AGES_FROM != 0)
                .then(|| rest.u64())
                .transpose()?,
            id: has(HAS_ID).then(|| rest.text()).transpose()?,
            event_type: has(HAS_TYPE).then(|| rest.text()).transpose()?,
            label: has(HAS_LABEL).then(|| rest.text()).transpose()?,
            topics: rest.texts()?,
            owners: rest.texts()?,
            is_granted,
            data_kind,
            data: rest.text()?,
        })
    }

    /// What [`NewRecord::retention_time`] says of it.
    pub(super) fn retention_time(&self, now: u64) -> u64 {
        crate::record::retention_time(self.published_at, self.ages_from, now)
    }

    /// The id under which it is stored once; the empty id names nothing.
    pub(super) fn publisher_id(&self) -> Option<&'a str> {
        self.id.filter(|id| !id.is_empty())
    }

    pub(super) fn data_len(&self) -> usize {
        self.data.len()
    }

    /// What [`NewRecord::weight_bytes`] says of it.
    pub(super) fn weight_bytes(&self) -> u64 {
        let texts = [self.label, self.id, self.event_type, Some(self.data)];
        let topics = self.topics.chain(self.owners);
        crate::record::weight_bytes(topics, texts.into_iter().flatten()) as u64
    }

    /// Lends it as others see it.
    pub(super) fn to_ref(self, position: Position) -> RecordRef<'a> {
        RecordRef {
            position,
            id: self.id,
            event_type: self.event_type,
            data: self.data,
            retry: self.retry.map(Retry::from_millis),
            label: self.label,
            data_kind: self.data_kind,
            priority: self.priority,
            published_at: self.published_at,
            expires_at: self.expires_at,
            audience: if self.is_granted {
                AudienceRef::Granted
            } else if self.owners.is_empty() {
                AudienceRef::Everyone
            } else {
                AudienceRef::Owners(TopicNames::of_texts(self.owners))
            },
            topics: TopicNames::of_texts(self.topics),
        }
    }

    /// Copies it into the type we compute with.
    pub(super) fn to_record(self, topics: &mut TopicCache) -> Result<NewRecord, Damaged> {
        let event_type = |text: Option<&str>| text.map(EventType::new).transpose();
        Ok(NewRecord {
            topics: topics.all(self.topics)?,
            audience: if self.is_granted {
                Audience::Granted
            } else if self.owners.is_empty() {
                Audience::Everyone
            } else {
                Audience::Owners(topics.all(self.owners)?)
            },
            label: event_type(self.label).map_err(|_| Damaged)?,
            event: Event {
                id: self.id.map(EventId::new).transpose().map_err(|_| Damaged)?,
                event_type: event_type(self.event_type).map_err(|_| Damaged)?,
                data: self.data.into(),
                retry: self.retry.map(Retry::from_millis),
            },
            data_kind: self.data_kind,
            priority: self.priority,
            published_at: self.published_at,
            ages_from: self.ages_from,
            expires_at: self.expires_at,
            snapshot: None,
            expects: None,
        })
    }
}

/// The topics of a page: most records have the same few, so their text is checked and kept once.
#[derive(Default)]
pub(super) struct TopicCache(HashSet<Topic>);

impl TopicCache {
    pub(super) fn get(&mut self, name: &str) -> Result<Topic, Damaged> {
        if let Some(topic) = self.0.get(name) {
            return Ok(topic.clone());
        }
        let topic = Topic::new(name).map_err(|_| Damaged)?;
        self.0.insert(topic.clone());
        Ok(topic)
    }

    fn all(&mut self, names: Texts<'_>) -> Result<Vec<Topic>, Damaged> {
        let mut topics = Vec::with_capacity(names.size_hint().0);
        for name in names {
            topics.push(self.get(name)?);
        }
        Ok(topics)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(record: &NewRecord, offset: Offset) -> Vec<u8> {
        let mut bytes = encode(record);
        seal(&mut bytes, offset, 1_000);
        bytes
    }

    fn decoded(offset: Offset, bytes: &[u8]) -> Result<NewRecord, Damaged> {
        RecordView::decode(offset, bytes)?.to_record(&mut TopicCache::default())
    }

    fn any_record() -> impl Strategy<Value = NewRecord> {
        let topics = || proptest::collection::vec("[^*\\p{Cc}]{1,20}", 0..4);
        let event_type = || proptest::option::of("[^\r\n]{1,20}");
        (
            (
                topics(),
                proptest::option::of(topics()),
                event_type(),
                event_type(),
            ),
            (
                proptest::option::of("[^\r\n\0]{0,20}"),
                ".{0,300}",
                proptest::option::of(any::<u64>()),
            ),
            (
                any::<u64>(),
                proptest::option::of(any::<u64>()),
                proptest::option::of(any::<u64>()),
                0..3usize,
            ),
        )
            .prop_map(
                |(
                    (topics, audience, event_type, label),
                    (id, data, retry),
                    (at, ages_from, expires, p),
                )| {
                    let all = |names: Vec<String>| {
                        names
                            .into_iter()
                            .map(|n| Topic::new(n).expect("a topic"))
                            .collect()
                    };
                    let a_type =
                        |t: Option<String>| t.map(|t| EventType::new(t).expect("an event type"));
                    NewRecord {
                        topics: all(topics),
                        audience: audience
                            .map_or(Audience::Granted, |names| Audience::Owners(all(names))),
                        label: a_type(label),
                        event: Event {
                            id: id.map(|id| EventId::new(id).expect("an id")),
                            event_type: a_type(event_type),
                            data: data.into(),
                            retry: retry.map(Retry::from_millis),
                        },
                        data_kind: [DataKind::Text, DataKind::Json][p % 2],
                        priority: [Priority::Low, Priority::Normal, Priority::High][p],
                        published_at: at,
                        ages_from,
                        expires_at: expires,
                        snapshot: None,
                        expects: None,
                    }
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read(record in any_record(), offset: u64) {
            prop_assert_eq!(decoded(offset, &sealed(&record, offset)), Ok(record));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(offset: u64, mut bytes: Vec<u8>) {
            let _ = decoded(offset, &bytes);
            // With a checksum that fits, the layout itself is what is read.
            bytes.resize(bytes.len() + RUNNING_WEIGHT_BYTES + CHECKSUM_BYTES, 1);
            seal(&mut bytes, offset, 0);
            let _ = decoded(offset, &bytes);
        }

        #[test]
        fn a_flipped_bit_is_found_out(record in any_record(), at: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = sealed(&record, 7);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decoded(7, &bytes), Err(Damaged));
        }

        #[test]
        fn a_record_cut_short_or_in_anothers_place_is_found_out(record in any_record(), at: prop::sample::Index) {
            let bytes = sealed(&record, 7);
            prop_assert_eq!(decoded(8, &bytes), Err(Damaged));
            prop_assert_eq!(decoded(7, &bytes[..at.index(bytes.len())]), Err(Damaged));
        }
    }
}
