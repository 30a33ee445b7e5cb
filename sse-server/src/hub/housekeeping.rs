//! What the hub does once a second, and how it drains.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sse_broker::LogTime;
use sse_health::{Fault, Phase, Status};
use sse_pool::{CloseReason, ReaderState, SweepOutcome};

use super::Hub;
use super::age_clock::{AgeClock, ClockNotice};
use crate::clock;

impl Hub {
    /// Looks for stalled and idle connections, old events and health; to be called about once a
    /// second. The server does; who embeds the hub may use [`run_housekeeping`](Self::run_housekeeping).
    pub async fn housekeep(&self, now: Instant) {
        let inner = &self.inner;
        inner.selectors.forget_unused();
        inner.clients.forget_unused();
        inner.cohorts.forget_unused();
        self.sweep_connections(now);
        self.look_at_the_clock(now);
        self.tell_of_the_log();
        self.tell_of_refusals(now);
        if inner.metrics.is_sweep_due(now) {
            self.sweep_named_subscriptions();
            if let Err(error) = inner.broker.trim(self.age_now()).await {
                inner.metrics.record_error(now);
                tracing::warn!(%error, "old events could not be trimmed");
            }
        }
        self.end_rights(clock::unix_millis()).await;
        self.save_named_subscriptions().await;
        // Noticed once a second, whoever asks.
        let _ = self.faults();
        let (cpu, transitions) = inner.metrics.observe(self, now);
        if let Some(cpu) = cpu {
            inner
                .compressor
                .set_level(inner.load_governor.observe(cpu, now));
        }
        for transition in transitions {
            let (from, to) = (transition.from, transition.to);
            tracing::warn!(
                signal = transition.signal.name(),
                "{from} => {to}: {}",
                transition.reason
            );
        }
    }

    /// Ends the streams that are stalled or idle at `now`. [`housekeep`](Self::housekeep) does, once a second.
    ///
    /// *Stalled*: events wait for it, and it has taken none for the send timeout. *Idle*: its socket has taken nothing for the idle
    /// timeout, neither an event nor a heartbeat. A quiet reader takes heartbeats, so it stays.
    pub fn sweep_connections(&self, now: Instant) -> SweepOutcome {
        let inner = &self.inner;
        let swept = inner.pool.sweep(now);
        for (ids, reason) in [
            (&swept.stalled, CloseReason::Stalled),
            (&swept.idle, CloseReason::Idle),
        ] {
            for id in ids {
                tracing::info!(connection = %id, %reason, "connection evicted");
            }
        }
        // Idle ones had nothing to take.
        inner.metrics.record_stalled(swept.stalled.len(), now);
        inner.metrics.record_behind(&swept);
        swept
    }

    /// Notices whether the wall clock goes as the monotonic one does, and lets the log know the time.
    fn look_at_the_clock(&self, now: Instant) {
        let mut clock = self.inner.age_clock.lock();
        let notice = clock.observe(now, clock::unix_millis());
        let seen = clock.clone();
        drop(clock);
        self.inner.broker.note_time(seen.log_time());
        tell(&seen, notice);
    }

    /// Says which limits have refused somebody.
    fn tell_of_refusals(&self, now: Instant) {
        let users = self.inner.user_places.refusals_to_tell(now);
        let users = users.map(|told| ("--max-connections-per-user", told));
        for (limit, told) in self.inner.rates.refusals_to_tell(now).chain(users) {
            tracing::warn!(
                limit,
                refused = told.count,
                first = told.example,
                "a limit has refused requests"
            );
        }
    }

    /// Says once that nothing can be stored any more, and what to do.
    fn tell_of_the_log(&self) {
        let fenced = self.log_health().fenced;
        let is_new = {
            let mut told = self.inner.told_fence.lock();
            let is_new = *told != fenced;
            told.clone_from(&fenced);
            is_new
        };
        if is_new && let Some(reason) = fenced {
            tracing::error!("{}", fenced_advice(&reason));
        }
    }

    /// What is wrong beyond what is measured, and since when, for the health reports.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let log = self.log_health().fenced.map(|reason| Fault {
            signal: "log",
            status: Status::Critical,
            message: fenced_advice(&reason),
            since: None,
        });
        let clock = self.inner.age_clock.lock().fault().map(|message| Fault {
            signal: "clock",
            status: Status::Warning,
            message,
            since: None,
        });
        let mut faults: Vec<_> = log.into_iter().chain(clock).collect();
        let mut since = self.inner.faults_since.lock();
        since.retain(|signal, _| faults.iter().any(|fault| fault.signal == *signal));
        for fault in &mut faults {
            let now = clock::unix_millis() / 1000;
            fault.since = Some(*since.entry(fault.signal).or_insert(now));
        }
        faults
    }

    /// Keeps house once a second until the hub is shut down.
    pub async fn run_housekeeping(&self) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while *self.inner.phase.lock() != Phase::Drained {
            ticks.tick().await;
            self.housekeep(clock::now()).await;
        }
    }

    /// Begins to leave: no new connections and events are taken from here on. Those that are there
    /// have `within` to end; a second call changes nothing.
    pub fn drain(&self, within: Duration) {
        let before = {
            let mut phase = self.inner.phase.lock();
            let before = *phase;
            phase.drain(clock::now(), within);
            before
        };
        if before == Phase::Serving {
            self.inner.pool.set_draining(true);
            // Who polls and waits is answered now.
            self.inner.head.send_modify(|_| ());
            self.wake_job_waiters();
            tracing::info!(
                connections = self.inner.pool.stats().active,
                within_seconds = within.as_secs_f64(),
                "serving => draining"
            );
        }
    }

    /// Shuts down: takes nothing new, lets what was accepted be committed and what was committed be
    /// delivered, ends every stream and closes the log. Returns how many streams had to be cut.
    ///
    /// Few streams end at once; many end one slice after another over most of `within`, so that their
    /// clients do not all come back to another node at the same moment. The last eighth of it is left to
    /// who is slow to take the last bytes. A reader that is still behind when its turn comes resumes from
    /// its position elsewhere.
    pub async fn shutdown(&self, within: Duration) -> usize {
        let begin = clock::now();
        self.drain(within);
        let inner = &self.inner;
        let committed = async {
            loop {
                let quiet = inner.quiet.notified();
                if inner.publishing.load(Ordering::Acquire) == 0 {
                    break;
                }
                quiet.await;
            }
        };
        let _ = tokio::time::timeout(within / 4, committed).await;
        self.delivered(within / 4).await;
        let total = inner.pool.stats().active;
        if total <= STREAMS_PER_SLICE {
            inner.pool.close_all(CloseReason::Draining);
        }
        let mut closed = 0;
        while inner.pool.stats().active > 0 && clock::now() < begin + within {
            // Ahead of time: whose turn came with the end itself would be cut.
            let at = clock::now() + within / LAST_BYTES;
            let due = inner.phase.lock().leavers_due(total, at);
            if due > closed {
                closed += inner.pool.close_some(CloseReason::Draining, due - closed);
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
        // Also those that were told to end and do not take it.
        let cut = inner.pool.stats().active;
        inner.pool.close_all(CloseReason::Shutdown);
        self.save_named_subscriptions().await;
        inner.broker.close().await;
        inner.phase.lock().handle_empty();
        cut
    }

    /// Waits until no reader has unread events, for so long at most.
    async fn delivered(&self, within: Duration) {
        let deadline = clock::now() + within;
        let behind = || {
            self.inner
                .pool
                .find(|status| status.state != ReaderState::Waiting)
        };
        while !behind().is_empty() && clock::now() < deadline {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }
}

/// Starts the clock by which events age, and says what is noticed of it.
pub(super) fn start_age_clock(last: Option<LogTime>, trusts_clock: bool) -> AgeClock {
    let (clock, notice) = AgeClock::start(clock::now(), clock::unix_millis(), last, trusts_clock);
    tell(&clock, notice);
    clock
}

/// Says once what was noticed of the clock.
fn tell(clock: &AgeClock, notice: Option<ClockNotice>) {
    match (notice, clock.fault()) {
        (None, _) => {}
        (Some(ClockNotice::Agreed), _) | (Some(_), None) => {
            tracing::info!("events age by the clock again");
        }
        (Some(_), Some(fault)) => tracing::warn!("{fault}"),
    }
}

/// Why nothing is stored, and what the operator does about it.
fn fenced_advice(reason: &str) -> String {
    format!(
        "the log cannot be written: {reason}. Publishing answers 503, and readers go on with what is there. See to the disk or the \
         data folder first, then start the hub again; if it finds the log damaged, `sse-server log salvage` saves what can be read"
    )
}

/// How often stalled readers are looked for: a fraction of the send timeout's five seconds.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// So many streams end at once without anybody noticing their return. A stated guess.
const STREAMS_PER_SLICE: usize = 100;
/// What part of a drain is left to the last bytes of the streams that ended last. A stated guess.
const LAST_BYTES: u32 = 8;
/// How often a drain looks at what is left.
const DRAIN_STEP: Duration = Duration::from_millis(10);
