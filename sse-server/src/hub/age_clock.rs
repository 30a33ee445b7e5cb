//! The time by which events age: a clock that jumps does not make them older.
//!
//! Retention by age is the one thing that a wrong clock makes irreversible: set ten years ahead for a minute, everything would be
//! too old. So events age by a reckoning of its own. While the hub runs, its monotonic clock says how much time has passed,
//! and the wall clock is followed only as long as it says the same. Across restarts the log keeps both times. Pure: the
//! readings come as arguments.
//!
//! ```text
//!              differs from the monotonic clock            says again what is reckoned
//!   Agreed ───────────────────────────────────▶ Apart ─────────────────────────────────▶ Agreed
//!
//!              more than an hour, or less than nothing, has passed since the log was last open
//!   (start) ─────────────────────────────────────────────────────────────────────────▶ Doubted
//!   Doubted ── an hour of running, in which the clock goes steadily ──▶ Agreed (forward), Apart (backward)
//! ```

use std::time::{Duration, Instant};

use sse_broker::{LogTime, UnixMillis};

/// The reckoning.
#[derive(Clone, Debug)]
pub(crate) struct AgeClock {
    /// What the clocks said when they were last taken to go together.
    anchor: Reading,
    /// The newest reading.
    latest: Reading,
    /// How far the wall clock is ahead of the reckoning, in milliseconds.
    ahead: i64,
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    now: Instant,
    wall: UnixMillis,
}

/// The clock has said something at the start that one reading is not enough for.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// What the log knew.
    last: LogTime,
    /// Since when the clock has gone steadily.
    since: Instant,
}

/// What was noticed, to be told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockNotice {
    /// The clock jumped by so many milliseconds while the hub ran.
    Jumped(i64),
    /// So many milliseconds lie between the log's last time and the clock.
    Doubted(i64),
    /// It is taken for right again.
    Agreed,
}

impl AgeClock {
    /// Starts to reckon. `last` is what the log says; with `trust` the clock is right whatever that is.
    pub(crate) fn start(
        now: Instant,
        wall: UnixMillis,
        last: Option<LogTime>,
        trust: bool,
    ) -> (Self, Option<ClockNotice>) {
        let reading = Reading { now, wall };
        let mut clock = Self {
            anchor: reading,
            latest: reading,
            ahead: 0,
            doubt: None,
        };
        let Some(last) = last.filter(|_| !trust) else {
            return (clock, None);
        };
        let passed = difference(wall, last.wall);
        clock.ahead = difference(last.wall, last.age);
        if is_short_pause(passed) {
            clock.settle();
            let notice = (clock.ahead != 0).then_some(ClockNotice::Jumped(clock.ahead));
            return (clock, notice);
        }
        // The pause does not count until it is believed.
        clock.ahead = difference(wall, last.age);
        clock.doubt = Some(Doubt { last, since: now });
        (clock, Some(ClockNotice::Doubted(passed)))
    }

    /// Takes a reading of both clocks; to be called about once a second.
    pub(crate) fn observe(&mut self, now: Instant, wall: UnixMillis) -> Option<ClockNotice> {
        let reading = Reading { now, wall };
        let passed = millis(now.saturating_duration_since(self.anchor.now));
        let jump = difference(wall, self.anchor.wall).saturating_sub(passed);
        self.latest = reading;
        if jump.unsigned_abs() <= TOLERANCE_MILLIS {
            if passed.unsigned_abs() >= ANCHOR_MILLIS {
                self.anchor = reading;
            }
            return self.believe(now);
        }
        self.ahead = self.ahead.saturating_add(jump);
        self.anchor = reading;
        if let Some(doubt) = &mut self.doubt {
            doubt.since = now;
            let last = doubt.last;
            if is_short_pause(difference(wall, last.wall)) {
                // Set right soon after the start, as where a machine begins without the time.
                self.doubt = None;
                self.ahead = difference(last.wall, last.age);
            }
        }
        self.settle();
        Some(match (self.ahead, self.doubt) {
            (0, None) => ClockNotice::Agreed,
            _ => ClockNotice::Jumped(jump),
        })
    }

    /// After an hour in which it went steadily, what the clock said at the start is believed, unless it went back.
    fn believe(&mut self, now: Instant) -> Option<ClockNotice> {
        let doubt = self.doubt?;
        if now.saturating_duration_since(doubt.since) < GRACE {
            return None;
        }
        self.doubt = None;
        let passed = difference(self.latest.wall, doubt.last.wall);
        if passed < 0 {
            return None;
        }
        self.ahead = difference(doubt.last.wall, doubt.last.age);
        self.settle();
        (self.ahead == 0).then_some(ClockNotice::Agreed)
    }

    /// A small difference is none.
    fn settle(&mut self) {
        if self.ahead.unsigned_abs() <= TOLERANCE_MILLIS {
            self.ahead = 0;
        }
    }

    /// The time by which events age. Follows the wall clock, and between two readings what has passed.
    pub(crate) fn at(&self, now: Instant, wall: UnixMillis) -> UnixMillis {
        let passed = millis(now.saturating_duration_since(self.latest.now));
        let reckoned = i128::from(self.latest.wall) + i128::from(passed);
        // A jump since the last reading is not followed before it has been looked at.
        let is_jump = (i128::from(wall) - reckoned).unsigned_abs() > u128::from(TOLERANCE_MILLIS);
        let wall = if is_jump { reckoned } else { i128::from(wall) };
        u64::try_from(wall - i128::from(self.ahead)).unwrap_or(0)
    }

    /// Whether the wall clock is not what events age by.
    pub(crate) fn is_apart(&self) -> bool {
        self.ahead != 0
    }

    /// Both times, for the log to keep.
    pub(crate) fn log_time(&self) -> LogTime {
        LogTime {
            age: self.at(self.latest.now, self.latest.wall),
            wall: self.latest.wall,
        }
    }

    /// What is wrong, for people; nothing while both clocks agree.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(doubt) = self.doubt {
            let passed = difference(self.latest.wall, doubt.last.wall);
            let (by, way) = span(passed);
            return Some(format!(
                "the clock is {by} {way} what it was when the log was last open. Events do not age by that before the hub has \
                 run for an hour with a steady clock: set it right until then, or restart the hub with --trust-clock if it is"
            ));
        }
        if self.ahead == 0 {
            return None;
        }
        let (by, way) = span(self.ahead);
        Some(format!(
            "the clock has jumped: it is {by} {way} the time that has passed, by which events age. Set it right, or restart the \
             hub with --trust-clock if it is"
        ))
    }
}

/// How much it is, for people, and which way.
fn span(millis: i64) -> (String, &'static str) {
    let minutes = millis.unsigned_abs() / 60_000;
    let by = match (minutes / 60, minutes / (24 * 60)) {
        (0..2, _) => format!("{minutes} minutes"),
        (hours, 0..2) => format!("{hours} hours"),
        (_, days) => format!("{days} days"),
    };
    (by, if millis < 0 { "behind" } else { "ahead of" })
}

/// Whether so much may have passed while the log was not open that one reading is enough.
fn is_short_pause(passed: i64) -> bool {
    (-(TOLERANCE_MILLIS as i64)..=MAX_PAUSE_MILLIS).contains(&passed)
}

fn difference(a: UnixMillis, b: UnixMillis) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How far the clocks may come apart in [`ANCHOR_MILLIS`]: what a clock is set by when it was a little wrong. A stated guess.
const TOLERANCE_MILLIS: u64 = 5 * 60 * 1000;
/// How often both clocks are taken to go together, so that many small steps are one jump.
const ANCHOR_MILLIS: u64 = 60 * 60 * 1000;
/// A pause that is believed at once: an update, a reboot. A stated guess.
const MAX_PAUSE_MILLIS: i64 = 60 * 60 * 1000;
/// How long a longer pause is doubted. A stated guess: long enough to be seen and set right.
const GRACE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    /// Some day in 2026.
    const T: UnixMillis = 1_780_000_000_000;

    /// A hub whose clocks are told by hand.
    struct Sim {
        clock: AgeClock,
        now: Instant,
        wall: UnixMillis,
        notices: Vec<ClockNotice>,
    }

    impl Sim {
        fn start(wall: UnixMillis, last: Option<LogTime>, trust: bool) -> Self {
            let now = crate::clock::now();
            let (clock, notice) = AgeClock::start(now, wall, last, trust);
            Self {
                clock,
                now,
                wall,
                notices: Vec::from_iter(notice),
            }
        }

        /// Runs for so long, with readings every second for a minute and every minute after.
        fn run(&mut self, millis: u64) {
            let mut left = millis;
            while left > 0 {
                let step = if millis - left < MINUTE {
                    1_000
                } else {
                    MINUTE
                };
                let step = step.min(left);
                left -= step;
                self.now += Duration::from_millis(step);
                self.wall += step;
                self.notices.extend(self.clock.observe(self.now, self.wall));
            }
        }

        fn jump(&mut self, millis: i64) {
            self.wall = self.wall.saturating_add_signed(millis);
            let before = self.age();
            self.notices.extend(self.clock.observe(self.now, self.wall));
            // No reading moves the reckoning by more than what is tolerated.
            assert!(self.age().abs_diff(before) <= TOLERANCE_MILLIS);
        }

        fn age(&self) -> UnixMillis {
            self.clock.at(self.now, self.wall)
        }

        fn restart_after(&self, pause: i64) -> Self {
            let wall = self.wall.saturating_add_signed(pause);
            Self::start(wall, Some(self.clock.log_time()), false)
        }
    }

    #[test]
    fn a_clock_that_goes_steadily_is_followed() {
        let mut sim = Sim::start(T, None, false);
        sim.run(3 * DAY);
        assert_eq!((sim.age(), sim.notices.len()), (T + 3 * DAY, 0));
        assert_eq!(sim.clock.fault(), None);
        // Set by a minute, as time services do.
        sim.jump(-60_000);
        assert_eq!((sim.age(), sim.notices.len()), (sim.wall, 0));
    }

    #[test]
    fn a_jump_while_the_hub_runs_makes_nothing_older_however_long_it_lasts() {
        for jump in [
            10 * YEAR as i64,
            -(10 * YEAR as i64),
            HOUR as i64,
            -(HOUR as i64),
        ] {
            let mut sim = Sim::start(T, None, false);
            sim.run(HOUR);
            sim.jump(jump);
            assert_eq!(sim.notices, [ClockNotice::Jumped(jump)]);
            assert_eq!(sim.age(), T + HOUR, "{jump}");
            assert!(sim.clock.fault().is_some());
            sim.run(9 * DAY);
            // What passes counts.
            assert_eq!(sim.age(), T + HOUR + 9 * DAY, "{jump}");
            assert_eq!(sim.notices.len(), 1, "told once");
            // A restart does not make it right, nor wrong.
            let mut later = sim.restart_after(MINUTE as i64);
            later.run(2 * DAY);
            assert_eq!(later.age(), T + HOUR + 11 * DAY + MINUTE, "{jump}");
            // Set right again.
            later.jump(-jump);
            assert_eq!(later.notices.last(), Some(&ClockNotice::Agreed), "{jump}");
            assert_eq!((later.age(), later.clock.fault()), (later.wall, None));
        }
    }

    #[test]
    fn a_jump_is_not_followed_before_it_has_been_looked_at() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        sim.wall += 10 * YEAR;
        assert_eq!(sim.age(), T + HOUR);
    }

    #[test]
    fn many_small_steps_are_a_jump() {
        let mut sim = Sim::start(T, None, false);
        for _ in 0..100 {
            sim.run(1_000);
            sim.wall += 4 * MINUTE;
            sim.notices.extend(sim.clock.observe(sim.now, sim.wall));
        }
        assert!(!sim.notices.is_empty());
        assert!(sim.age() <= T + 10 * MINUTE, "{}", sim.age() - T);
    }

    #[test]
    fn a_short_pause_counts_at_once_and_a_long_one_after_an_hour() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        let short = sim.restart_after(30 * MINUTE as i64);
        assert_eq!(
            (short.age(), short.notices.len()),
            (T + HOUR + 30 * MINUTE, 0)
        );

        let mut long = sim.restart_after(90 * DAY as i64);
        assert_eq!(long.notices, [ClockNotice::Doubted(90 * DAY as i64)]);
        assert_eq!(long.age(), T + HOUR, "not by one reading");
        long.run(59 * MINUTE);
        assert_eq!(long.age(), T + HOUR + 59 * MINUTE);
        let fault = long.clock.fault().expect("told");
        assert!(
            fault.contains("90 days ahead of") && fault.contains("--trust-clock"),
            "{fault}"
        );
        long.run(2 * MINUTE);
        assert_eq!(long.age(), long.wall);
        assert_eq!(
            (long.notices.last(), long.clock.fault()),
            (Some(&ClockNotice::Agreed), None)
        );
    }

    #[test]
    fn a_hub_that_is_restarted_again_and_again_believes_nothing_sooner() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        let mut sim = sim.restart_after(10 * YEAR as i64);
        for _ in 0..5 {
            sim.run(30 * MINUTE);
            sim = sim.restart_after(1_000);
            assert!(
                sim.age() < T + DAY,
                "the doubt is not forgotten by a restart"
            );
            assert!(sim.clock.fault().is_some());
        }
    }

    #[test]
    fn a_clock_that_is_set_right_soon_after_the_start_is_believed_at_once() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        // The machine begins in 1970, and hears of the time a minute later.
        let mut sim = Sim::start(0, Some(sim.clock.log_time()), false);
        assert_eq!(sim.age(), T + HOUR);
        sim.run(MINUTE);
        sim.jump((T + HOUR + 3 * MINUTE) as i64 - MINUTE as i64);
        assert_eq!(sim.notices.last(), Some(&ClockNotice::Agreed));
        assert_eq!((sim.age(), sim.clock.fault()), (sim.wall, None));
    }

    #[test]
    fn a_clock_that_went_back_while_the_hub_was_stopped_stays_apart() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        let mut back = sim.restart_after(-(30 * DAY as i64));
        assert_eq!(back.age(), T + HOUR);
        back.run(3 * HOUR);
        assert_eq!(back.age(), T + 4 * HOUR);
        assert!(back.clock.fault().is_some());
    }

    #[test]
    fn the_operator_may_say_that_the_clock_is_right() {
        let mut sim = Sim::start(T, None, false);
        sim.run(HOUR);
        for pause in [10 * YEAR as i64, -(40 * YEAR as i64)] {
            let wall = sim.wall.saturating_add_signed(pause);
            let trusted = Sim::start(wall, Some(sim.clock.log_time()), true);
            assert_eq!((trusted.age(), trusted.notices.len()), (wall, 0));
        }
    }
}
