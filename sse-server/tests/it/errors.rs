//! What is wrong is refused, in words, with the field named, and nothing of it is published.

mod batch;
mod framing;
mod guards;
mod hostile;
mod jobs;
mod panics;
mod table;
mod unavailable;

use std::net::{IpAddr, Ipv4Addr};

/// Where a request comes from that is handed to the service without a socket.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
