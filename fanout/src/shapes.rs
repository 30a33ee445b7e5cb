//! The shapes: what is done to a server, and what is read off.

mod basic;
mod churn;
mod compressed;
mod curve;
mod own_topics;
mod stalled;

pub(crate) use curve::{SHAPE as CURVE, rate_of as curve_rate};

use std::time::Duration;

use crate::Outcome;
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::load::{Load, Pace, Ran, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::target::Target;

/// One of them, by its name on the command line.
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
    fn is_basic(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Idle | Self::Paced | Self::Flat100 | Self::Flat1k | Self::Single
        )
    }
}

/// Measures everything that `options` ask of the `targets`, round after round.
pub(crate) fn measure(options: &Options, targets: &[Target], figures: &mut Figures) -> Outcome {
    let shapes = options.shapes();
    let wants = |shape| shapes.contains(&shape);
    for round in 0..options.rounds() {
        figures.round = round;
        if shapes.iter().any(|shape| shape.is_basic()) {
            for readers in options.subscribers() {
                for target in targets {
                    session(
                        options,
                        target,
                        figures,
                        &format!("{readers} readers"),
                        |figures| basic::measure(options, &shapes, target, readers, figures),
                    );
                }
            }
        }
        for target in targets {
            for (shape, measure) in OTHERS.iter().filter(|(shape, _)| wants(*shape)) {
                let what = format!("{shape:?}");
                session(options, target, figures, &what, |figures| {
                    measure(options, target, figures)
                });
            }
        }
    }
    Ok(())
}

/// How a shape is measured that has servers of its own.
type Measure = fn(&Options, &Target, &mut Figures) -> Outcome;

/// The shapes that are not basic.
const OTHERS: [(Shape, Measure); 5] = [
    (Shape::OwnTopics, own_topics::measure),
    (Shape::Gzip, compressed::measure),
    (Shape::Stalled, stalled::measure),
    (Shape::Churn, churn::measure),
    (Shape::Curve, curve::measure),
];

/// One server's turn: what goes wrong in it is noted, and the others go on.
fn session(
    options: &Options,
    target: &Target,
    figures: &mut Figures,
    what: &str,
    measure: impl FnOnce(&mut Figures) -> Outcome,
) {
    figures.server = target.name().to_owned();
    if !options.is_silent() {
        eprintln!("round {}: {}, {what}", figures.round + 1, target.name());
    }
    if let Err(failure) = measure(figures) {
        figures.trouble(format!("{what}: {failure}"));
    }
}

/// How many events are on their way and through how many connections they come, with so many
/// readers: a few thousand deliveries are under way either way.
fn window(readers: usize) -> (usize, usize) {
    if readers > 2_000 { (8, 4) } else { (16, 8) }
}

/// As many events as it takes.
fn flat_out(payload: Payload, readers: usize, lasting: Duration) -> Load {
    let (in_flight, publishers) = window(readers);
    Load {
        payload,
        pace: Pace::InFlight(in_flight),
        publishers,
        lasting,
        at_most: None,
    }
}

/// One event to everyone, so that what is made at first use is made.
fn warm_up(fleet: &mut Fleet, server: &Server) -> Outcome {
    let once = Load {
        payload: Payload::Filler(100),
        pace: Pace::InFlight(1),
        publishers: 1,
        lasting: Duration::ZERO,
        at_most: None,
    };
    run(fleet, server, once).map(drop)
}

/// Between the last connection, or the last event, and the look at memory.
const SETTLE: Duration = Duration::from_secs(1);

/// Notes what a load lost.
fn check(figures: &mut Figures, what: &str, fleet: &Fleet, ran: &Ran) {
    let Ran {
        lost,
        reordered,
        corrupt,
        deliveries,
        ..
    } = ran;
    if lost + reordered + corrupt > 0 || fleet.ended > 0 {
        figures.trouble(format!(
            "{what}: of {deliveries} deliveries {lost} lost, {reordered} out of order or twice, \
             {corrupt} wrong; {} readers ended by the server",
            fleet.ended
        ));
    }
}
