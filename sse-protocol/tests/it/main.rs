//! Behaviour of the codec through its public API.

mod allocations;
mod chunking;
mod conformance;
mod limits;
mod reconnecting;
mod roundtrip;
mod support;
