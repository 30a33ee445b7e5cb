//! What the project's server is meant to reach, held against what was measured.

use crate::figures::{Figures, Metric, Row};
use crate::table::{number, show};

/// What a figure is compared with.
#[derive(Clone, Copy)]
enum To {
    /// Another server's figure of the same row and round.
    Server(&'static str),
    /// Nothing: the figure itself.
    Itself,
    /// The same server's figure with so many readers.
    Readers(usize),
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

struct Goal {
    shape: &'static str,
    /// Zero for any number.
    readers: usize,
    metric: Metric,
    server: &'static str,
    to: To,
    bound: Bound,
}

const fn goal(
    shape: &'static str,
    readers: usize,
    metric: Metric,
    server: &'static str,
    to: To,
    bound: Bound,
) -> Goal {
    Goal {
        shape,
        readers,
        metric,
        server,
        to,
        bound,
    }
}

#[rustfmt::skip]
const GOALS: [Goal; 31] = {
    use Bound::{AtLeast, AtMost};
    use Metric::{BytesPerEvent, ConnectsPerSecond, CpuPerConnect, CpuPerEvent, CpuPerPublish};
    use Metric::{IdleMemory, P99, Resumed, Slowdown, StalledMemory};
    use To::{Itself, Readers, Server};
    [
        goal("flat 100 B", 1_000, CpuPerEvent, "hub", Server("raw-coalesce"), AtMost(0.6)),
        goal("flat 100 B", 10_000, CpuPerEvent, "hub", Server("raw-coalesce"), AtMost(0.8)),
        goal("flat 1 KiB", 1_000, CpuPerEvent, "hub", Server("raw-coalesce"), AtMost(0.6)),
        goal("flat 1 KiB", 10_000, CpuPerEvent, "hub", Server("raw-coalesce"), AtMost(0.8)),
        goal("flat 100 B", 0, CpuPerEvent, "hub-durable", Server("raw-coalesce"), AtMost(1.0)),
        goal("flat 1 KiB", 0, CpuPerEvent, "hub-durable", Server("raw-coalesce"), AtMost(1.0)),
        goal("single", 0, CpuPerEvent, "hub", Server("raw"), AtMost(1.1)),
        goal("paced", 0, CpuPerEvent, "hub", Server("raw"), AtMost(1.15)),
        goal("paced", 0, P99, "hub", Server("raw"), AtMost(1.25)),
        goal("idle", 10_000, IdleMemory, "hub", Itself, AtMost(0.35)),
        goal("own topics", 10_000, IdleMemory, "hub", Itself, AtMost(0.75)),
        goal("own topics", 10_000, CpuPerPublish, "hub", Readers(100), AtMost(1.1)),
        goal("connect", 0, CpuPerConnect, "hub", Server("nchan"), AtMost(0.75)),
        goal("connect", 0, CpuPerConnect, "hub", Itself, AtMost(8.0)),
        goal("connect", 0, ConnectsPerSecond, "hub", Server("nchan"), AtLeast(1.0)),
        goal("connect", 0, CpuPerConnect, "hub-hs256", Server("hub"), AtMost(1.15)),
        goal("connect", 0, CpuPerConnect, "hub-es256", Server("hub"), AtMost(1.5)),
        goal("flat 100 B", 0, CpuPerEvent, "hub-hs256", Server("hub"), AtMost(1.03)),
        goal("flat 1 KiB", 0, CpuPerEvent, "hub-hs256", Server("hub"), AtMost(1.03)),
        goal("single", 0, CpuPerEvent, "hub-hs256", Server("hub"), AtMost(1.03)),
        goal("paced", 0, CpuPerEvent, "hub-hs256", Server("hub"), AtMost(1.03)),
        goal("gzip tokens, flat out", 0, CpuPerEvent, "hub gzip", Server("hub"), AtMost(1.15)),
        goal("gzip tokens, 50 a second", 0, CpuPerEvent, "hub gzip", Server("hub"), AtMost(1.15)),
        goal("gzip progress, flat out", 0, CpuPerEvent, "hub gzip", Server("hub"), AtMost(1.15)),
        goal("gzip progress, 50 a second", 0, CpuPerEvent, "hub gzip", Server("hub"), AtMost(1.15)),
        goal("gzip tokens, 50 a second", 0, BytesPerEvent, "hub gzip", Server("hub"), AtMost(0.4)),
        goal("gzip progress, 50 a second", 0, BytesPerEvent, "hub gzip", Server("hub"), AtMost(0.4)),
        goal("stalled", 0, Slowdown, "hub", Itself, AtMost(1.2)),
        goal("stalled", 0, StalledMemory, "hub", Itself, AtMost(192.0)),
        goal("stalled", 0, Metric::KernelMemory, "hub", Itself, AtMost(192.0)),
        goal("stalled", 0, Resumed, "hub", Itself, AtLeast(1.0)),
    ]
};

/// Prints each goal that something was measured for.
pub(crate) fn print(figures: &Figures) {
    let head = ["goal", "readers", "", "bound", "seen", ""];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for row in figures.rows() {
        for goal in GOALS.iter().filter(|goal| goal.is_about(&row)) {
            let Some(seen) = goal.seen(figures, &row) else {
                continue;
            };
            let (sign, bound, is_met) = match goal.bound {
                Bound::AtMost(bound) => ("≤", bound, seen <= bound),
                Bound::AtLeast(bound) => ("≥", bound, seen >= bound),
            };
            let (unit, to) = match goal.to {
                To::Server(name) => ("×", format!(" {name}")),
                To::Readers(count) => ("×", format!(" at {count}")),
                To::Itself => ("", String::new()),
            };
            table.push(vec![
                format!("{}, {}", row.shape, goal.server),
                row.readers.to_string(),
                row.metric.name().to_owned(),
                format!("{sign} {bound}{unit}{to}"),
                format!("{}{unit}", number(seen)),
                if is_met { "met" } else { "**not met**" }.to_owned(),
            ]);
        }
    }
    if table.len() > 1 {
        println!("\n### Goals\n");
        show(&table);
    }
}

impl Goal {
    fn is_about(&self, row: &Row) -> bool {
        self.shape == row.shape
            && self.metric == row.metric
            && (self.readers == 0 || self.readers == row.readers)
    }

    fn seen(&self, figures: &Figures, row: &Row) -> Option<f64> {
        let median = |row: &Row| Some(figures.summary(row, self.server)?.median);
        match self.to {
            To::Itself => median(row),
            To::Server(name) => figures.ratio(row, self.server, name),
            To::Readers(readers) if readers == row.readers => None,
            To::Readers(readers) => {
                let other = Row {
                    readers,
                    ..row.clone()
                };
                Some(median(row)? / median(&other)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    #[test]
    fn a_goal_may_compare_with_fewer_readers_of_the_same_server() {
        let mut figures = Figures::default();
        figures.server = "hub".to_owned();
        for (readers, value) in [(100, 10.0), (10_000, 12.0)] {
            figures.add("own topics", readers, Metric::CpuPerPublish, value);
        }
        let goal = GOALS
            .iter()
            .find(|goal| goal.metric == Metric::CpuPerPublish)
            .unwrap();
        let seen: Vec<_> = figures
            .rows()
            .iter()
            .map(|row| goal.seen(&figures, row))
            .collect();
        assert_eq!(seen, [None, Some(1.2)]);
    }
}
