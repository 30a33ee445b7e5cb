//! The shapes: what is done to a server, and what is read off.

mod basic;
mod churn;
mod compressed;
mod curve;
mod own_topics;
mod stalled;
mod steps;

pub(crate) use curve::{SHAPE as CURVE, rate_of as curve_rate};

use crate::Outcome;
use crate::figures::Figures;
use crate::options::Options;
use crate::shape::Shape;
use crate::target::Target;

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
