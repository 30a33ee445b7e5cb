//! The names of the shapes.

/// A shape, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Connecting: processor time for each, and how many a second
    Connect,
    /// Memory of connections that hear nothing
    Idle,
    /// A few events a second: latency, and what nothing can be saved on
    Paced,
    /// As many events as it takes, 100 bytes each
    Flat100,
    /// As many events as it takes, 1 KiB each
    Flat1k,
    /// One event at a time: nothing can be put together
    Single,
    /// Each reader has a topic of its own: what a publish to one of them costs
    OwnTopics,
    /// Readers that accept gzip: processor time and bytes beside those that do not
    Gzip,
    /// Ten thousand readers that never read: what the others notice, and memory
    Stalled,
    /// A hundred thousand readers that come and go: what they leave behind
    Churn,
    /// Latency and processor time by the rate of publishing
    Curve,
}

impl Shape {
    /// Whether it is measured in one session with the others of its kind.
    pub(crate) fn is_basic(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Idle | Self::Paced | Self::Flat100 | Self::Flat1k | Self::Single
        )
    }
}
