//! What several shapes do on their way.

use std::time::Duration;

use crate::Outcome;
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::load::{Load, Pace, Ran, run};
use crate::payload::Payload;
use crate::process::Server;

/// How many events are on their way and through how many connections they come, with so many
/// readers: a few thousand deliveries are under way either way.
fn window(readers: usize) -> (usize, usize) {
    if readers > 2_000 { (8, 4) } else { (16, 8) }
}

/// As many events as it takes.
pub(super) fn flat_out(payload: Payload, readers: usize, lasting: Duration) -> Load {
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
pub(super) fn warm_up(fleet: &mut Fleet, server: &Server) -> Outcome {
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
pub(super) const SETTLE: Duration = Duration::from_secs(1);

/// Notes what a load lost.
pub(super) fn check(figures: &mut Figures, what: &str, fleet: &Fleet, ran: &Ran) {
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
