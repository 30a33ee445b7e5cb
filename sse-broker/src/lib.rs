//! The log of a Server-Sent Events hub: what was said, in one order, and how to read on from any point of it.
//!
//! A [`Broker`] takes [`NewRecord`]s, gives each a [`Position`] and keeps it as long as its
//! [`Retention`] says. It knows nothing of who is connected: what it has committed it hands, in order,
//! to one [`Tail`], and what a reader has missed it reads back in [`Page`]s.

mod broker;
mod position;
mod record;
mod topic;

pub use broker::{
    Appended, AppendError, Bounds, BoxFuture, Broker, Durability, Page, ReadError, ReadRequest, Scope,
    Tail,
};
pub use position::{Epoch, Offset, ParsePositionError, Position};
pub use record::{NewRecord, Priority, Record, Snapshot, UnixMillis};
pub use topic::{InvalidTopic, Topic};
