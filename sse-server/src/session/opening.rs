//! The first bytes of a stream: the greeting, the gap, and the states of jobs.

use bytes::Bytes;
use sse_broker::{Gap, Offset, Topic};
use sse_pool::Visibility;

use crate::clock::Moment;
use crate::hub::Hub;
use crate::wire::{Format, Greeting, Message, State};

/// The first bytes of a stream, and what is in them already.
pub(super) struct Opening {
    pub(super) bytes: Bytes,
    /// Job topics whose state was shown, and up to which offset it holds.
    pub(super) snapshots: Vec<(Topic, Offset)>,
}

impl Opening {
    /// The greeting, the gap where there is one, and the state of each job that the reader follows, unless it goes on
    /// where it left off or wants no events of the type that tells it.
    pub(super) fn new(
        hub: &Hub,
        greeting: &Greeting<'_>,
        gap: Option<&Gap>,
        job_topics: &[Topic],
        format: Format,
        visibility: &Visibility,
        moment: Moment,
    ) -> Self {
        let mut bytes = Vec::with_capacity(512);
        hub.write(format, Message::Greeting(greeting), &mut bytes);
        if let Some(gap) = gap {
            hub.write(format, Message::Gap(gap, moment.unix_millis), &mut bytes);
        }
        let mut snapshots = Vec::new();
        if !greeting.resumed || gap.is_some() {
            for topic in job_topics {
                let job = topic.under("job").and_then(|job_id| hub.job_at(job_id));
                let job = job.filter(|(job, _)| visibility.allows(&job.as_event(), None));
                let Some((job, offset)) = job else { continue };
                let Some(event) = job.snapshot_event(greeting.subscriptions) else {
                    continue;
                };
                let state = State {
                    topic: topic.as_str(),
                    event_type: event.kind.as_str(),
                    data: &event.data,
                };
                hub.write(format, Message::State(state), &mut bytes);
                snapshots.push((topic.clone(), offset));
            }
        }
        Self {
            bytes: Bytes::from(bytes),
            snapshots,
        }
    }
}
