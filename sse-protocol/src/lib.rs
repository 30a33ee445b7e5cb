//! The Server-Sent Events format: decoder and encoder, sans-IO, exactly as the WHATWG standard has it.
//!
//! This crate knows bytes and events, and nothing else: no socket, no clock, no runtime, no HTTP. It is
//! `no_std` + `alloc`, has no unsafe code, and never panics on what a peer sends.
//!
//! # Two layers
//!
//! | layer | gives | who wants it |
//! |---|---|---|
//! | raw: [`LineDecoder`], [`Line`] | lines and fields as bytes, nothing interpreted | a proxy, a recorder |
//! | standard: [`Decoder`] | events with type, data and last event id; comments; `retry` | a client |
//!
//! Both take bytes in chunks of any size and give the same answer however the stream was cut.
//!
//! # Reading
//!
//! A [`Decoder`] lends what it finds: while an event lies in one chunk, its text is a slice of that chunk and
//! nothing is allocated. [`EventView::to_buf`] keeps it, with one allocation.
//!
//! ```
//! use sse_protocol::{Decoded, Decoder};
//!
//! let mut decoder = Decoder::new();
//! let mut feed = decoder.feed(b": hello\n\nid: 7\nevent: greeting\ndata: good\ndata: morning\n\n");
//! let mut seen = Vec::new();
//! while let Some(decoded) = feed.next() {
//!     match decoded {
//!         Decoded::Event(event) => seen.push((event.event_type().to_owned(), event.data().to_owned())),
//!         Decoded::Comment(text) => seen.push((":".to_owned(), text.to_owned())),
//!         _ => {}
//!     }
//! }
//! assert_eq!(seen[0], (":".to_owned(), "hello".to_owned()));
//! assert_eq!(seen[1], ("greeting".to_owned(), "good\nmorning".to_owned()));
//! assert_eq!(decoder.last_event_id(), "7");
//! ```
//!
//! # Writing
//!
//! Text from outside becomes a checked type once ([`EventId`], [`EventType`]); an [`Event`] that exists can be
//! written, and the [`encoder`] has no error.
//!
//! ```
//! use sse_protocol::{Event, EventId, EventType, Frame};
//!
//! let event = Event::new("good\nmorning")
//!     .with_id(EventId::new("7")?)
//!     .with_type(EventType::new("greeting")?);
//! let frame = Frame::event(event.as_event_ref());
//! assert_eq!(frame.as_bytes(), b"event: greeting\nid: 7\ndata: good\ndata: morning\n\n");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod block;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod event;
pub mod event_id;
pub mod event_type;
pub mod frame;
mod input;
pub mod limits;
pub mod line;
pub mod media;
#[cfg(feature = "message")]
pub mod message;
#[cfg(any(test, feature = "naive"))]
pub mod naive;
pub mod retry;
mod search;
mod step;
pub mod view;

pub use decoder::{Decoded, Decoder, Ending, Feed, OwnedEvents};
pub use error::{InvalidEventId, InvalidEventType, LimitExceeded};
pub use event::{Event, EventRef};
pub use event_id::EventId;
pub use event_type::EventType;
pub use frame::Frame;
pub use limits::{Excess, Limits};
pub use line::{Line, LineDecoder, Lines};
pub use media::is_event_stream;
pub use retry::Retry;
pub use view::{EventBuf, EventView};
