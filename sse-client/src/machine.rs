//! The life of an event source, without a socket, a clock or a random source.
//!
//! ```text
//!            poll: due             opened                  proven good, or failed
//!  Waiting ───────────▶ Trying ───────────▶ Open ──────────────┐
//!     ▲                   │  via stream                        │
//!     │                   │  or via poll                       │
//!     └───────────────────┴── failed, another attempt is due ──┘
//!                         │
//!                         ▼
//!                       Ended: closed, 204, no attempt left, or no use
//! ```
//!
//! The shell asks [`poll`](Machine::poll) what to do and reports what came of it through the `handle_*`
//! functions; `now` and the draw of chance are arguments. Invariants, each tested below:
//!
//! * `Ended` is final: no input leads out of it.
//! * The count of failures falls back to zero only through a connection that proved good or a poll that
//!   was answered, never through a 200 alone. A connection that suffered a [setback](Machine::handle_setback) is not
//!   good until an event arrives.
//! * There are never more attempts in a row than the policy allows.

use std::time::{Duration, Instant};

use crate::backoff::{ReconnectPolicy, Spread};
use crate::row::{Row, Stood, Via};

/// The pure part of an event source.
#[derive(Debug)]
pub(crate) struct Machine {
    policy: ReconnectPolicy,
    fallback: Option<FallbackPolicy>,
    phase: Phase,
    row: Row,
    /// The server's reconnection time, clamped.
    retry: Option<Duration>,
    /// While polling: when the stream is given another chance.
    stream_again_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting {
        until: Instant,
    },
    Trying {
        via: Via,
    },
    Open {
        since: Instant,
        events: u32,
        setback: bool,
    },
    Ended,
}

/// When to poll instead of streaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FallbackPolicy {
    /// Failures of the stream in a row before polling begins.
    pub(crate) after_failures: u32,
    /// How long to poll before the stream is tried again.
    pub(crate) retry_stream_every: Duration,
}

/// What the shell has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sleep until then.
    Wait { until: Instant },
    /// Begin an attempt; it is the `attempt`th in a row.
    Begin { attempt: u32, via: Via },
    /// Go on with the attempt.
    Trying { via: Via },
    /// Read from the stream.
    Read,
    /// Nothing, for ever.
    Ended,
}

/// What may be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Another attempt under the policy, not before the server's `Retry-After`.
    Retry { after: Option<Duration> },
    /// The same attempt would fail again, though polling may help.
    Hopeless,
    /// Nothing more may be sent.
    Final,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The next attempt is due then.
    RetryAt(Instant),
    /// It was the last one.
    GiveUp,
}

impl Machine {
    pub(crate) fn new(
        policy: ReconnectPolicy,
        fallback: Option<FallbackPolicy>,
        now: Instant,
    ) -> Self {
        Self {
            policy,
            fallback,
            phase: Phase::Waiting { until: now },
            row: Row::default(),
            retry: None,
            stream_again_at: None,
        }
    }

    /// What to do at `now`. Begins the attempt when it is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Waiting { until } if now < until => Step::Wait { until },
            Phase::Waiting { .. } => {
                let via = self.choose_via(now);
                self.phase = Phase::Trying { via };
                Step::Begin {
                    attempt: self.attempt(),
                    via,
                }
            }
            Phase::Trying { via } => Step::Trying { via },
            Phase::Open { .. } => Step::Read,
            Phase::Ended => Step::Ended,
        }
    }

    /// The number of the current or next attempt in a row, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.row.failures().saturating_add(1)
    }

    /// Whether the policy knows other than first attempts.
    pub(crate) fn may_retry(&self) -> bool {
        self.policy.enabled
    }

    /// The stream was accepted.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        if let Phase::Trying { via: Via::Stream } = self.phase {
            self.phase = Phase::Open {
                since: now,
                events: 0,
                setback: false,
            };
        }
    }

    /// An event arrived on the stream.
    pub(crate) fn handle_event(&mut self) {
        if let Phase::Open {
            events, setback, ..
        } = &mut self.phase
        {
            *events = events.saturating_add(1);
            *setback = false;
        }
    }

    /// The open stream turned out to be of no use: it told a refusal, or brought an event over the limit. Unless an
    /// event follows, its end counts as a failure, however long it stood.
    pub(crate) fn handle_setback(&mut self, now: Instant) {
        if self.stood(now) == Stood::Proven {
            self.row.proved_before_setback();
        }
        if let Phase::Open { setback, .. } = &mut self.phase {
            *setback = true;
        }
    }

    /// A `retry:` field arrived.
    pub(crate) fn handle_retry(&mut self, asked: Duration) {
        self.retry = Some(self.policy.clamp_retry(asked));
    }

    /// A poll was answered; the next one is due at once.
    pub(crate) fn handle_polled(&mut self, now: Instant) {
        if let Phase::Trying { via: Via::Poll } = self.phase {
            self.phase = Phase::Waiting { until: now };
            self.row.polled();
        }
    }

    /// The attempt or the connection failed. `chance` is the draw for the delay, in `0.0..1.0`.
    pub(crate) fn handle_failure(&mut self, now: Instant, repair: Repair, chance: f64) -> Outcome {
        let via = match self.phase {
            Phase::Ended => return Outcome::GiveUp,
            Phase::Trying { via } => via,
            Phase::Open { .. } | Phase::Waiting { .. } => Via::Stream,
        };
        let began = self.row.fail(self.stood(now), via, now);
        if !self.policy.enabled || repair == Repair::Final {
            return self.end();
        }
        if let (Some(fallback), Via::Stream) = (self.fallback, via)
            && (self.row.stream_failures() >= fallback.after_failures || repair == Repair::Hopeless)
        {
            self.row.give_up_stream(fallback.after_failures);
            self.stream_again_at = Some(now + fallback.retry_stream_every);
        } else if repair == Repair::Hopeless {
            return self.end();
        }
        if self
            .policy
            .max_attempts
            .is_some_and(|most| self.row.failures() >= most)
        {
            return self.end();
        }
        let after = match repair {
            Repair::Retry { after } => after,
            Repair::Hopeless | Repair::Final => None,
        };
        let growth = match self.policy.spread {
            Spread::Full => self.row.growth(),
            Spread::Tenth => self.row.unopened_growth(),
        };
        let until = now + self.policy.delay(growth, self.retry, after, chance);
        if self
            .policy
            .max_elapsed
            .is_some_and(|limit| until > began + limit)
        {
            return self.end();
        }
        self.phase = Phase::Waiting { until };
        Outcome::RetryAt(until)
    }

    /// A caller asks to connect again: at once, and with a fresh count.
    ///
    /// Nothing happens after the end.
    pub(crate) fn reconnect(&mut self, now: Instant) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Waiting { until: now };
            self.row = Row::default();
            self.stream_again_at = None;
        }
    }

    /// Ends it: closed by the caller, or a 204.
    pub(crate) fn stop(&mut self) {
        self.phase = Phase::Ended;
    }

    fn end(&mut self) -> Outcome {
        self.phase = Phase::Ended;
        Outcome::GiveUp
    }

    /// How the current connection has stood.
    fn stood(&self, now: Instant) -> Stood {
        let Phase::Open {
            since,
            events,
            setback,
        } = self.phase
        else {
            return Stood::Not;
        };
        if setback {
            Stood::Setback
        } else if now.saturating_duration_since(since) >= self.policy.proven_after
            || events >= self.policy.proven_events
        {
            Stood::Proven
        } else {
            Stood::Briefly
        }
    }

    fn choose_via(&mut self, now: Instant) -> Via {
        match self.stream_again_at {
            Some(at) if now < at => Via::Poll,
            // One chance; a failure finds the count of stream failures high enough and sets the time again.
            _ => {
                self.stream_again_at = None;
                Via::Stream
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: fn(u64) -> Duration = Duration::from_secs;
    const RETRY: Repair = Repair::Retry { after: None };

    fn machine(policy: ReconnectPolicy) -> (Machine, Instant) {
        let now = Instant::now();
        (Machine::new(policy, None, now), now)
    }

    /// Fails the attempt that is due and returns how long the machine waits then.
    fn fail(machine: &mut Machine, now: &mut Instant) -> Option<Duration> {
        if let Step::Wait { until } = machine.poll(*now) {
            *now = until;
            machine.poll(*now);
        }
        match machine.handle_failure(*now, RETRY, 1.0) {
            Outcome::RetryAt(at) => Some(at - *now),
            Outcome::GiveUp => None,
        }
    }

    #[test]
    fn delays_grow_while_nothing_works() {
        let (mut m, mut now) = machine(ReconnectPolicy::default());
        let waits: Vec<_> = (0..6)
            .map(|_| fail(&mut m, &mut now).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30]);
    }

    #[test]
    fn accept_then_drop_is_a_failure_like_any_other() {
        let (mut m, mut now) = machine(ReconnectPolicy::default().max_attempts(4));
        let mut waits = Vec::new();
        loop {
            if let Step::Wait { until } = m.poll(now) {
                now = until;
                m.poll(now);
            }
            m.handle_open(now);
            m.handle_event(); // the greeting
            match m.handle_failure(now, RETRY, 1.0) {
                Outcome::RetryAt(at) => waits.push((at - now).as_secs()),
                Outcome::GiveUp => break,
            }
        }
        assert_eq!(
            waits,
            [1, 2, 4],
            "grows, and four attempts are four attempts"
        );
    }

    #[test]
    fn a_connection_that_stood_long_enough_starts_the_count_anew() {
        let (mut m, mut now) = machine(ReconnectPolicy::default());
        for _ in 0..5 {
            fail(&mut m, &mut now);
        }
        let Step::Wait { until } = m.poll(now) else {
            panic!()
        };
        now = until;
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 6,
                via: Via::Stream
            }
        );
        m.handle_open(now);
        now += SEC(10);
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(1))
        );
        now += SEC(1);
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 1,
                via: Via::Stream
            }
        );
        assert_eq!(
            fail(&mut m, &mut now),
            Some(SEC(1)),
            "still the first of its row"
        );
        assert_eq!(fail(&mut m, &mut now), Some(SEC(2)));
    }

    #[test]
    fn sixteen_events_also_prove_a_connection() {
        let (mut m, mut now) = machine(ReconnectPolicy::default());
        for _ in 0..3 {
            fail(&mut m, &mut now);
        }
        now += SEC(60);
        m.poll(now);
        m.handle_open(now);
        for _ in 0..16 {
            m.handle_event();
        }
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(1))
        );
    }

    /// Opens a stream and loses it at once; says how long the machine waits then.
    fn open_and_lose(m: &mut Machine, now: &mut Instant, setback: bool) -> Duration {
        while let Step::Wait { until } = m.poll(*now) {
            *now = until;
        }
        m.handle_open(*now);
        if setback {
            m.handle_setback(*now);
        }
        match m.handle_failure(*now, RETRY, 0.5) {
            Outcome::RetryAt(at) => at - *now,
            Outcome::GiveUp => panic!("there is no limit"),
        }
    }

    #[test]
    fn in_the_standard_mode_only_attempts_that_open_nothing_double_the_delay() {
        let (mut m, mut now) = machine(ReconnectPolicy::standard());
        m.handle_retry(SEC(2));
        for _ in 0..3 {
            assert_eq!(open_and_lose(&mut m, &mut now, false), SEC(2));
        }
        let waits = [2, 4, 8].map(SEC);
        assert_eq!(
            waits.map(|_| open_and_lose(&mut m, &mut now, true)),
            waits,
            "a stream that only refuses is not one"
        );
        assert_eq!(open_and_lose(&mut m, &mut now, false), SEC(2));
    }

    #[test]
    fn a_setback_is_a_failure_however_long_the_connection_stood_unless_an_event_follows() {
        let (mut m, mut now) = machine(ReconnectPolicy::default());
        for _ in 0..3 {
            fail(&mut m, &mut now);
        }
        now += SEC(60);
        m.poll(now);
        m.handle_open(now);
        m.handle_setback(now);
        now += SEC(60);
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(8)),
            "the fourth in its row"
        );
        now += SEC(60);
        m.poll(now);
        m.handle_open(now);
        m.handle_setback(now);
        m.handle_event();
        now += SEC(60);
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(1))
        );
        now += SEC(60);
        m.poll(now);
        m.handle_open(now);
        now += SEC(60);
        m.handle_setback(now);
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(1)),
            "the first after a connection that had proved good"
        );
        assert_eq!(m.attempt(), 2);
        now += SEC(60);
        m.poll(now);
        m.handle_open(now);
        now += SEC(60);
        m.handle_setback(now);
        assert_eq!(
            m.handle_failure(now, RETRY, 1.0),
            Outcome::RetryAt(now + SEC(2)),
            "setbacks in a row grow, however good each connection was before"
        );
    }

    #[test]
    fn max_elapsed_counts_from_the_first_failure() {
        let (mut m, mut now) = machine(ReconnectPolicy::default().max_elapsed(SEC(10)));
        let begin = now;
        let mut attempts = 1;
        while fail(&mut m, &mut now).is_some() {
            attempts += 1;
        }
        assert!(now - begin <= SEC(10));
        assert_eq!(
            attempts, 4,
            "after 1, 2 and 4 seconds; 8 more would be too late"
        );
    }

    #[test]
    fn retry_and_retry_after_are_lower_bounds() {
        let (mut m, now) = machine(ReconnectPolicy::default());
        m.poll(now);
        m.handle_retry(SEC(5));
        assert_eq!(
            m.handle_failure(now, RETRY, 0.0),
            Outcome::RetryAt(now + SEC(5))
        );
        m.poll(now + SEC(5));
        let now = now + SEC(5);
        let busy = Repair::Retry {
            after: Some(SEC(20)),
        };
        assert_eq!(
            m.handle_failure(now, busy, 0.0),
            Outcome::RetryAt(now + SEC(20))
        );
    }

    #[test]
    fn after_the_end_nothing_happens() {
        let (mut m, now) = machine(ReconnectPolicy::default());
        m.poll(now);
        m.stop();
        m.reconnect(now);
        m.handle_open(now);
        assert_eq!(m.handle_failure(now, RETRY, 0.5), Outcome::GiveUp);
        assert_eq!(m.poll(now + SEC(1_000_000)), Step::Ended);
    }

    #[test]
    fn streams_that_keep_failing_make_it_poll_and_later_try_the_stream_once_more() {
        let now = Instant::now();
        let fallback = FallbackPolicy {
            after_failures: 2,
            retry_stream_every: SEC(60),
        };
        let mut m = Machine::new(ReconnectPolicy::default(), Some(fallback), now);
        let mut now = now;
        fail(&mut m, &mut now);
        m.poll(now);
        fail(&mut m, &mut now);
        now += SEC(30);
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 3,
                via: Via::Poll
            }
        );
        m.handle_polled(now);
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 1,
                via: Via::Poll
            }
        );
        now += SEC(60);
        m.handle_polled(now);
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 1,
                via: Via::Stream
            }
        );
        m.handle_failure(now, RETRY, 1.0);
        now += SEC(2);
        assert_eq!(
            m.poll(now),
            Step::Begin {
                attempt: 2,
                via: Via::Poll
            },
            "one chance, then back"
        );
    }

    #[test]
    fn a_hopeless_stream_is_the_end_without_a_fallback_and_a_poll_with_one() {
        let (mut m, now) = machine(ReconnectPolicy::default());
        m.poll(now);
        assert_eq!(
            m.handle_failure(now, Repair::Hopeless, 0.0),
            Outcome::GiveUp
        );
        let fallback = FallbackPolicy {
            after_failures: 3,
            retry_stream_every: SEC(60),
        };
        let mut m = Machine::new(ReconnectPolicy::default(), Some(fallback), now);
        m.poll(now);
        assert!(matches!(
            m.handle_failure(now, Repair::Hopeless, 0.0),
            Outcome::RetryAt(_)
        ));
        assert_eq!(
            m.poll(now + SEC(1)),
            Step::Begin {
                attempt: 2,
                via: Via::Poll
            }
        );
        assert_eq!(
            m.handle_failure(now, Repair::Hopeless, 0.0),
            Outcome::GiveUp
        );
    }

    #[derive(Clone, Debug)]
    enum Input {
        Poll,
        Open,
        Event,
        Setback,
        Fail(Option<u64>, f64),
        Retry(u64),
        Later(u64),
        Reconnect,
    }

    fn inputs() -> impl Strategy<Value = Vec<Input>> {
        let one = prop_oneof![
            4 => Just(Input::Poll),
            2 => Just(Input::Open),
            2 => Just(Input::Event),
            1 => Just(Input::Setback),
            3 => (proptest::option::of(0u64..100), 0.0f64..1.0).prop_map(|(a, c)| Input::Fail(a, c)),
            1 => any::<u64>().prop_map(Input::Retry),
            3 => (0u64..60_000).prop_map(Input::Later),
            1 => Just(Input::Reconnect),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happens_attempts_in_a_row_stay_within_the_limit(inputs in inputs(), most in 1u32..6) {
            let mut now = Instant::now();
            let mut m = Machine::new(ReconnectPolicy::default().max_attempts(most), None, now);
            let mut ended = false;
            for input in inputs {
                match input {
                    Input::Poll => match m.poll(now) {
                        Step::Begin { attempt, .. } => {
                            prop_assert!(attempt <= most);
                            prop_assert!(!ended);
                        }
                        Step::Ended => ended = true,
                        Step::Wait { until } => prop_assert!(until > now),
                        _ => {}
                    },
                    Input::Open => m.handle_open(now),
                    Input::Event => m.handle_event(),
                    Input::Setback => m.handle_setback(now),
                    Input::Fail(after, chance) => {
                        let repair = Repair::Retry { after: after.map(SEC) };
                        match m.handle_failure(now, repair, chance) {
                            Outcome::RetryAt(at) => {
                                prop_assert!(!ended);
                                prop_assert!(at >= now + after.map(SEC).unwrap_or_default());
                            }
                            Outcome::GiveUp => ended = true,
                        }
                    }
                    Input::Retry(ms) => m.handle_retry(Duration::from_millis(ms)),
                    Input::Later(ms) => now += Duration::from_millis(ms),
                    Input::Reconnect => m.reconnect(now),
                }
                if ended {
                    prop_assert_eq!(m.poll(now), Step::Ended);
                }
            }
        }
    }
}
