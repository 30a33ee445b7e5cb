//! What was measured, and how it compares: medians over the rounds, and ratios within each.
//!
//! A ratio is the median of the rounds' own ratios. What slows the machine down for a while slows
//! down all servers of a round, so the ratio stands where the figures themselves have drifted.

use serde_json::{Value, json};

/// What a figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Metric {
    CpuPerEvent,
    CpuPerPublish,
    CpuPerConnect,
    CpuShare,
    EventsPerSecond,
    ConnectsPerSecond,
    P50,
    P99,
    IdleMemory,
    LoadedMemory,
    MemoryLeft,
    KernelIdle,
    StalledMemory,
    KernelMemory,
    ServerBuffers,
    Slowdown,
    BytesPerEvent,
    Resumed,
}

impl Metric {
    const ALL: [Self; 18] = [
        Self::CpuPerEvent,
        Self::CpuPerPublish,
        Self::CpuPerConnect,
        Self::CpuShare,
        Self::EventsPerSecond,
        Self::ConnectsPerSecond,
        Self::P50,
        Self::P99,
        Self::IdleMemory,
        Self::LoadedMemory,
        Self::MemoryLeft,
        Self::KernelIdle,
        Self::StalledMemory,
        Self::KernelMemory,
        Self::ServerBuffers,
        Self::Slowdown,
        Self::BytesPerEvent,
        Self::Resumed,
    ];

    /// The name with its unit, in tables and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerEvent => "CPU µs per delivered event",
            Self::CpuPerPublish => "CPU µs per publish",
            Self::CpuPerConnect => "CPU µs per connect",
            Self::CpuShare => "CPU share of a core",
            Self::EventsPerSecond => "events delivered per second",
            Self::ConnectsPerSecond => "connects per second",
            Self::P50 => "latency p50 ms",
            Self::P99 => "latency p99 ms",
            Self::IdleMemory => "KiB per idle connection",
            Self::LoadedMemory => "KiB per connection after load",
            Self::MemoryLeft => "KiB left behind",
            Self::KernelIdle => "kernel KiB per idle connection, both ends",
            Self::StalledMemory => "KiB per stalled reader",
            Self::KernelMemory => "kernel KiB per stalled reader, both ends",
            Self::ServerBuffers => "of it buffers of the server's end",
            Self::Slowdown => "latency p99 over the same without them",
            Self::BytesPerEvent => "bytes per delivered event",
            Self::Resumed => "share that got every event",
        }
    }

    /// Whether a ratio to another server says anything.
    fn has_ratio(self) -> bool {
        !matches!(
            self,
            Self::CpuShare | Self::MemoryLeft | Self::Slowdown | Self::Resumed
        )
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// What was measured with how many readers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) shape: String,
    pub(crate) readers: usize,
    pub(crate) metric: Metric,
}

struct Figure {
    row: Row,
    server: String,
    round: usize,
    value: f64,
}

/// All figures of a run, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Figures {
    all: Vec<Figure>,
    /// What was not as it should be: losses, wrong order, a server that stopped.
    pub(crate) troubles: Vec<String>,
    /// Where figures are about to come from.
    pub(crate) server: String,
    pub(crate) round: usize,
}

/// A server's figures of one row, over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// To the row's floor.
    pub(crate) ratio: Option<f64>,
}

impl Figures {
    pub(crate) fn add(&mut self, shape: &str, readers: usize, metric: Metric, value: f64) {
        self.all.push(Figure {
            row: Row {
                shape: shape.to_owned(),
                readers,
                metric,
            },
            server: self.server.clone(),
            round: self.round,
            value,
        });
    }

    /// Notes something that makes the figures doubtful.
    pub(crate) fn trouble(&mut self, what: impl std::fmt::Display) {
        self.troubles
            .push(format!("{}, round {}: {what}", self.server, self.round + 1));
    }

    /// The rows: shapes in the order in which they were first measured, and each in one place.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for figure in &self.all {
            if rows.contains(&figure.row) {
                continue;
            }
            let same = |row: &Row| row.shape == figure.row.shape;
            let at = rows.iter().rposition(same).map_or(rows.len(), |at| at + 1);
            rows.insert(at, figure.row.clone());
        }
        rows
    }

    /// The servers, in the order in which they were first measured.
    pub(crate) fn servers(&self) -> Vec<String> {
        let mut servers: Vec<String> = Vec::new();
        for figure in &self.all {
            if !servers.contains(&figure.server) {
                servers.push(figure.server.clone());
            }
        }
        servers
    }

    /// What `server` has in `row`.
    pub(crate) fn summary(&self, row: &Row, server: &str) -> Option<Summary> {
        let values = self.values(row, server);
        let mut plain: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
        let median = median(&mut plain)?;
        Some(Summary {
            median,
            least: plain[0],
            most: plain[plain.len() - 1],
            ratio: self.ratio(row, server, floor_of(&row.shape)),
        })
    }

    /// The median of the rounds' ratios of `server` to `reference`.
    pub(crate) fn ratio(&self, row: &Row, server: &str, reference: &str) -> Option<f64> {
        if !row.metric.has_ratio() {
            return None;
        }
        let below = self.values(row, reference);
        let mut ratios: Vec<f64> = self
            .values(row, server)
            .iter()
            .filter_map(|(round, value)| {
                let (_, floor) = below.iter().find(|(other, _)| other == round)?;
                (*floor > 0.0).then(|| value / floor)
            })
            .collect();
        median(&mut ratios)
    }

    fn values(&self, row: &Row, server: &str) -> Vec<(usize, f64)> {
        let of_it = |figure: &&Figure| figure.row == *row && figure.server == server;
        let found = self.all.iter().filter(of_it);
        found.map(|figure| (figure.round, figure.value)).collect()
    }

    /// Everything, for a file.
    pub(crate) fn to_json(&self) -> Value {
        let mut figures = Vec::new();
        for row in self.rows() {
            for server in self.servers() {
                let Some(summary) = self.summary(&row, &server) else {
                    continue;
                };
                let values: Vec<f64> = self.values(&row, &server).iter().map(|v| v.1).collect();
                figures.push(json!({
                    "shape": row.shape,
                    "readers": row.readers,
                    "metric": row.metric.name(),
                    "server": server,
                    "median": summary.median,
                    "ratio": summary.ratio,
                    "values": values,
                }));
            }
        }
        json!({ "figures": figures, "troubles": self.troubles })
    }
}

/// The medians of a stored run.
pub(crate) fn stored(json: &Value) -> Vec<(Row, String, f64, Option<f64>)> {
    let figures = json["figures"].as_array().into_iter().flatten();
    let entry = |figure: &Value| {
        let row = Row {
            shape: figure["shape"].as_str()?.to_owned(),
            readers: figure["readers"].as_u64()? as usize,
            metric: Metric::named(figure["metric"].as_str()?)?,
        };
        let server = figure["server"].as_str()?.to_owned();
        Some((
            row,
            server,
            figure["median"].as_f64()?,
            figure["ratio"].as_f64(),
        ))
    };
    figures.filter_map(entry).collect()
}

/// What a shape is held against: the bare loop, which writes events together where they wait; the
/// hub's own uncompressed stream, for compressed ones.
pub(crate) fn floor_of(shape: &str) -> &'static str {
    if shape.starts_with("flat") {
        "raw-coalesce"
    } else if shape.starts_with("gzip") {
        "hub"
    } else {
        "raw"
    }
}

/// Sorts `values` and returns the middle one.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(&str, usize, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (server, round, value) in values {
            figures.server = (*server).to_owned();
            figures.round = *round;
            figures.add("single", 1000, Metric::CpuPerEvent, *value);
        }
        figures
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The machine was twice as slow in the second round.
        let figures = figures(&[
            ("raw", 0, 2.0),
            ("hub", 0, 3.0),
            ("raw", 1, 4.0),
            ("hub", 1, 6.0),
        ]);
        let row = &figures.rows()[0];
        let hub = figures.summary(row, "hub").unwrap();
        assert_eq!((hub.median, hub.ratio), (4.5, Some(1.5)));
    }

    #[test]
    fn a_round_without_its_floor_gives_no_ratio() {
        let figures = figures(&[("hub", 0, 3.0), ("raw", 1, 4.0)]);
        let row = &figures.rows()[0];
        assert_eq!(figures.summary(row, "hub").unwrap().ratio, None);
    }

    #[test]
    fn what_was_stored_can_be_read_again() {
        let figures = figures(&[("raw", 0, 2.0), ("hub", 0, 3.0)]);
        let stored = stored(&figures.to_json());
        assert_eq!(stored.len(), 2);
        assert_eq!(stored[1].0, figures.rows()[0]);
        assert_eq!(
            (stored[1].1.as_str(), stored[1].2, stored[1].3),
            ("hub", 3.0, Some(1.5))
        );
    }
}
