//! When a round of writing begins: at once when the hub is quiet, a little later when it is busy.
//!
//! A write costs much the same for one event and for twenty, so under load the cost of an event is how few events share a
//! write. A round that finds several events waiting for a reader shows that events come faster than rounds; the next round
//! then waits for more of them, a fraction of the time that a round takes. Rounds that find one event wait for nothing, so a
//! quiet hub adds no delay at all.

use std::time::{Duration, Instant};

use sse_broker::Offset;
use tokio::sync::watch;

use crate::clock;

/// What is known of the last round and this one.
#[derive(Debug)]
pub(super) struct Pace {
    /// The newest offset of the hub.
    head: watch::Receiver<Offset>,
    max_linger: Duration,
    began: Option<Instant>,
    last_round: Duration,
    /// The most events that a reader found waiting in this round.
    most_waiting: usize,
    /// The last round found several.
    is_loaded: bool,
}

impl Pace {
    pub(super) fn new(head: watch::Receiver<Offset>, max_linger: Duration) -> Self {
        Self {
            head,
            max_linger,
            began: None,
            last_round: Duration::ZERO,
            most_waiting: 0,
            is_loaded: false,
        }
    }

    /// Readers are written to from `now` on, unless a round is under way.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// A reader found so many events.
    pub(super) fn found(&mut self, events: usize) {
        self.most_waiting = self.most_waiting.max(events);
    }

    /// Every reader that was ready has been written to.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.last_round = now.saturating_duration_since(began);
        }
        self.is_loaded = self.most_waiting > 1;
        self.most_waiting = 0;
    }

    /// How long the next round may wait for more events.
    fn bound(&self) -> Duration {
        if self.is_loaded && self.began.is_none() {
            (self.last_round / LINGER_FRACTION).min(self.max_linger)
        } else {
            Duration::ZERO
        }
    }

    /// Waits for more events, if that is worth it now: longer while some are being published, which is known to end soon.
    pub(super) async fn linger(&mut self, is_publishing: impl Fn() -> bool) {
        let bound = self.bound();
        if bound.is_zero() {
            return;
        }
        self.is_loaded = false;
        let began = clock::now();
        let end = |is_publishing| match is_publishing {
            true => began + (bound * PUBLISHING_FACTOR).min(self.max_linger),
            false => began + bound,
        };
        let first = *self.head.borrow_and_update();
        let mut head = first;
        let mut quiet_turns = 0;
        loop {
            tokio::task::yield_now().await;
            let newest = *self.head.borrow_and_update();
            quiet_turns = if newest == head { quiet_turns + 1 } else { 0 };
            head = newest;
            let now = clock::now();
            let end = end(is_publishing());
            if now >= end || head.saturating_sub(first) >= ENOUGH_EVENTS {
                break;
            }
            if quiet_turns >= AWAKE_TURNS {
                if end - now < TIMER_RESOLUTION {
                    break;
                }
                // Nothing to do for so long that it is cheaper to sleep than to look.
                let _ = tokio::time::timeout_at(end.into(), self.head.changed()).await;
                quiet_turns = 0;
            }
        }
    }
}

/// A loaded reactor waits for more events before it writes: so much of the time that its last round took, but no longer than
/// is configured,
const LINGER_FRACTION: u32 = 4;
/// twice that while events are on their way to the log on disk, which takes a millisecond or two,
const PUBLISHING_FACTOR: u32 = 2;
/// until so many events have come,
const ENOUGH_EVENTS: u64 = 64;
/// and awake for so many turns of the runtime in which none came, about two microseconds each.
const AWAKE_TURNS: usize = 16;
/// The runtime's timers are no finer.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LINGER: Duration = Duration::from_millis(5);
    const ROUND: Duration = Duration::from_millis(8);

    fn after_a_round_that_found(events: usize) -> Pace {
        let (_, head) = watch::channel(0);
        let mut pace = Pace::new(head, MAX_LINGER);
        let now = clock::now();
        pace.begin(now);
        pace.found(events);
        pace.end(now + ROUND);
        pace
    }

    #[test]
    fn a_quiet_hub_adds_no_delay() {
        assert_eq!(after_a_round_that_found(1).bound(), Duration::ZERO);
    }

    #[test]
    fn a_busy_one_waits_a_fraction_of_a_round_and_never_long() {
        assert_eq!(after_a_round_that_found(2).bound(), ROUND / 4);
        let mut pace = after_a_round_that_found(100);
        pace.last_round = Duration::from_secs(1);
        assert_eq!(pace.bound(), MAX_LINGER);
        pace.max_linger = Duration::ZERO;
        assert_eq!(pace.bound(), Duration::ZERO);
    }

    #[test]
    fn a_round_that_is_under_way_is_not_held_up() {
        let mut pace = after_a_round_that_found(2);
        pace.begin(clock::now());
        assert_eq!(pace.bound(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_ends_by_itself_or_when_enough_has_come() {
        let (sender, head) = watch::channel(0);
        let mut pace = Pace::new(head, MAX_LINGER);
        (pace.is_loaded, pace.last_round) = (true, Duration::from_secs(1));
        pace.linger(|| false).await;
        assert!(
            !pace.is_loaded,
            "each round shows anew whether it is worth it"
        );
        (pace.is_loaded, pace.last_round) = (true, Duration::from_secs(3600));
        sender.send_replace(0);
        let feed = async {
            tokio::task::yield_now().await;
            sender.send_replace(ENOUGH_EVENTS);
        };
        tokio::join!(pace.linger(|| false), feed);
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_are_being_published_are_waited_for_a_little_longer() {
        let (_sender, head) = watch::channel(0);
        let mut pace = Pace::new(head, MAX_LINGER);
        for (is_publishing, linger) in [(false, ROUND / 4), (true, ROUND / 2)] {
            (pace.is_loaded, pace.last_round) = (true, ROUND);
            let began = clock::now();
            pace.linger(|| is_publishing).await;
            assert!(clock::now() - began + TIMER_RESOLUTION >= linger);
        }
    }
}
