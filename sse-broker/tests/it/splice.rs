//! The join of log and window against a naive reader, whatever happens in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use sse_broker::{
    Bounds, Epoch, Gap, GapReason, NewRecord, Offset, Page, Position, Record, ResumeFrom, Splice,
    Step,
};

use crate::support::record;

const EPOCH: Epoch = Epoch(3);

/// A log and a window over it; every offset is a record of the reader's topic or of another.
#[derive(Clone, Debug)]
struct World {
    /// Whether the record at `index + 1` concerns the reader.
    concerns: Vec<bool>,
    log_floor: Offset,
    /// What the retention of a topic has taken from the middle of the log.
    thinned: BTreeSet<Offset>,
    /// The window has heard of everything up to here.
    window_head: Offset,
    /// The window holds of the reader's topic what comes after this.
    window_floor: Offset,
}

impl World {
    fn head(&self) -> Offset {
        self.concerns.len() as Offset
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            epoch: EPOCH,
            floor: self.log_floor,
            head: self.head(),
        }
    }

    /// Offsets that concern the reader, after `after`, from log or window.
    fn after(&self, after: Offset) -> impl Iterator<Item = Offset> + '_ {
        (after + 1..=self.head()).filter(|offset| self.concerns[*offset as usize - 1])
    }

    fn page(&self, after: Offset, max_records: usize) -> Page {
        let start = after.max(self.log_floor);
        let is_kept = |offset: &Offset| !self.thinned.contains(offset);
        let kept = self.after(start).filter(is_kept);
        let mut offsets: Vec<_> = kept.take(max_records + 1).collect();
        let upto = if offsets.len() > max_records {
            offsets.truncate(max_records);
            *offsets.last().expect("at least one")
        } else {
            self.head().max(after)
        };
        let records = offsets
            .into_iter()
            .map(|offset| Arc::new(at(offset)))
            .collect();
        Page {
            records,
            upto,
            trimmed: after < self.log_floor,
            removed: self
                .after(after)
                .filter(|at| self.thinned.contains(at))
                .last(),
        }
    }
}

fn at(offset: Offset) -> Record {
    let content: NewRecord = record("mine", "x");
    Record {
        position: Position {
            epoch: EPOCH,
            offset,
        },
        content,
    }
}

/// What goes on while the reader is on its way.
#[derive(Clone, Debug)]
enum Event {
    /// Records are committed; the window hears of them later.
    Append(Vec<bool>),
    /// The window hears of so many of them.
    Tell(u64),
    /// The window forgets the oldest so many.
    Evict(u64),
    /// Retention forgets the oldest so many.
    Trim(u64),
    /// The retention of a topic takes every so manieth record up to here.
    Thin(u64, u64),
    /// The reader takes a step, reading pages of this size.
    Step(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::collection::vec(any::<bool>(), 1..6).prop_map(Event::Append),
        (1..6u64).prop_map(Event::Tell),
        (1..6u64).prop_map(Event::Evict),
        (1..4u64).prop_map(Event::Trim),
        (1..5u64, 1..40u64).prop_map(|(each, upto)| Event::Thin(each, upto)),
        (1..5usize).prop_map(Event::Step),
        (1..5usize).prop_map(Event::Step),
    ]
}

fn any_resume() -> impl Strategy<Value = ResumeFrom> {
    prop_oneof![
        Just(ResumeFrom::Live),
        Just(ResumeFrom::Earliest),
        Just(ResumeFrom::Id(None)),
        (0..30u64).prop_map(|offset| ResumeFrom::Id(Some(offset))),
        (2..5u64, 0..30u64).prop_map(|(epoch, offset)| {
            ResumeFrom::Position(Position {
                epoch: Epoch(epoch),
                offset,
            })
        }),
    ]
}

/// What reached the reader, in order.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Record(Offset),
    Gap(Gap),
}

struct Reader {
    splice: Splice,
    heard: Vec<Heard>,
    /// In the window: how far it has read.
    live_after: Offset,
    /// What was gone up to here when a reader of all that is kept read its first page.
    forgiven: Option<Offset>,
}

impl Reader {
    fn step(&mut self, world: &World, max_records: usize) {
        match self.splice.step() {
            Step::Join { after } => {
                self.live_after = after;
                let gap = self.splice.handle_window(world.window_floor);
                if let Some(gap) = gap {
                    self.live_after = gap.to.offset;
                    self.heard.push(Heard::Gap(gap));
                }
            }
            Step::Read { after } => {
                let page = world.page(after, max_records);
                self.forgiven.get_or_insert(page.removed.unwrap_or(0));
                self.heard
                    .extend(self.splice.handle_page(&page).map(Heard::Gap));
                self.heard.extend(
                    page.records
                        .iter()
                        .map(|r| Heard::Record(r.position.offset)),
                );
            }
            Step::Live { .. } if world.window_floor > self.live_after => {
                self.splice.handle_lag(self.live_after);
            }
            Step::Live { .. } => {
                let offsets: Vec<_> = world
                    .after(self.live_after)
                    .filter(|at| *at <= world.window_head)
                    .collect();
                self.heard.extend(offsets.into_iter().map(Heard::Record));
                self.live_after = self.live_after.max(world.window_head);
            }
        }
    }
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Append(concerns) => world.concerns.extend(concerns),
        Event::Tell(count) => world.window_head = (world.window_head + count).min(world.head()),
        Event::Evict(count) => {
            world.window_floor = (world.window_floor + count).min(world.window_head);
        }
        Event::Trim(count) => {
            // What was not yet told may be trimmed as well: retention by count knows no window.
            world.log_floor = (world.log_floor + count).min(world.head());
        }
        Event::Thin(each, upto) => {
            let upto = world.head().min(*upto);
            world
                .thinned
                .extend((1..=upto).filter(|at| at.is_multiple_of(*each)));
        }
        Event::Step(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn each_record_comes_once_in_order_or_the_gap_comes_first(
        history in proptest::collection::vec(any_event(), 0..20),
        from in any_resume(),
        meanwhile in proptest::collection::vec(any_event(), 0..60),
    ) {
        let mut world =
            World { concerns: Vec::new(), log_floor: 0, thinned: BTreeSet::new(), window_head: 0, window_floor: 0 };
        for event in &history {
            happen(&mut world, event);
        }
        let bounds = world.bounds();
        let (splice, gap) = Splice::begin(from, bounds);
        let begun_at = splice.position().offset;
        let forgiven = (from != ResumeFrom::Earliest).then_some(0);
        let mut reader = Reader { splice, heard: Vec::new(), live_after: begun_at, forgiven };
        reader.heard.extend(gap.map(Heard::Gap));
        for event in &meanwhile {
            happen(&mut world, event);
            if let Event::Step(max_records) = event {
                reader.step(&world, *max_records);
            }
        }
        // Then it becomes quiet, and the reader catches up.
        world.window_head = world.head();
        let steps = (0..1_000).take_while(|_| {
            reader.step(&world, 3);
            !matches!(reader.splice.step(), Step::Live { .. }) || reader.live_after < world.head()
        });
        prop_assert!(steps.count() < 1_000, "the reader never arrived");

        let asked = match from {
            ResumeFrom::Live => Some(bounds.head),
            ResumeFrom::Earliest => None,
            ResumeFrom::Id(id) => id,
            ResumeFrom::Position(p) => (p.epoch == EPOCH).then_some(p.offset),
        };
        let must_begin_with_a_gap = match from {
            ResumeFrom::Live | ResumeFrom::Earliest => false,
            _ => asked.is_none_or(|offset| offset < bounds.floor || offset > bounds.head),
        };
        prop_assert_eq!(matches!(reader.heard.first(), Some(Heard::Gap(_))) && gap.is_some(), must_begin_with_a_gap);

        // Up to where the reader has everything, or has heard why not.
        let mut upto = if gap.is_some() { 0 } else { begun_at };
        let mut promised = from != ResumeFrom::Earliest;
        // What is gone by the retention of a topic, as far as the reader has heard.
        let mut told_until = reader.forgiven.unwrap_or(0);
        for heard in &reader.heard {
            match heard {
                Heard::Gap(gap) => {
                    prop_assert!(gap.to.offset >= upto, "a gap leads back: {:?}", reader.heard);
                    prop_assert_eq!(gap.to.epoch, EPOCH);
                    if gap.reason == GapReason::Trimmed && gap.from.is_some_and(|f| f.epoch == EPOCH) {
                        prop_assert!(gap.from.is_some_and(|from| from.offset < gap.to.offset));
                    }
                    prop_assert!(gap.until >= gap.to);
                    upto = gap.to.offset;
                    if matches!(gap.reason, GapReason::Thinned | GapReason::Trimmed) {
                        told_until = gap.until.offset.max(told_until);
                    }
                }
                Heard::Record(offset) => {
                    prop_assert!(*offset > upto, "twice or out of order: {:?}", reader.heard);
                    let is_told = |at: &Offset| *at <= told_until && world.thinned.contains(at);
                    let missed = world.after(upto).find(|at| at < offset && !is_told(at));
                    // Who asked for all that is kept was promised nothing before its first record.
                    prop_assert!(missed.is_none() || !promised, "lost {missed:?}: {:?}", reader.heard);
                    upto = *offset;
                }
            }
            promised = true;
        }
        let is_told = |at: &Offset| *at <= told_until && world.thinned.contains(at);
        let missed = world.after(upto).find(|at| !is_told(at));
        prop_assert!(missed.is_none() || !promised, "lost {missed:?} at the end: {:?}", reader.heard);
    }
}

#[test]
fn the_window_alone_serves_a_reader_that_it_still_holds_everything_for() {
    let bounds = Bounds {
        epoch: EPOCH,
        floor: 0,
        head: 100,
    };
    let from = ResumeFrom::Position(Position {
        epoch: EPOCH,
        offset: 90,
    });
    let (mut splice, gap) = Splice::begin(from, bounds);
    assert_eq!(gap, None);
    assert_eq!(splice.handle_window(90), None);
    assert_eq!(splice.step(), Step::Live { after: 90 });
}

#[test]
fn a_reader_may_fall_out_and_come_back_any_number_of_times() {
    let bounds = Bounds {
        epoch: EPOCH,
        floor: 0,
        head: 0,
    };
    let (mut splice, _) = Splice::begin(ResumeFrom::Live, bounds);
    for round in 1..100u64 {
        let after = round * 10;
        splice.handle_window(0);
        splice.handle_lag(after);
        assert_eq!(splice.step(), Step::Join { after });
        splice.handle_window(after + 5);
        assert_eq!(splice.step(), Step::Read { after });
        let page = Page {
            upto: after + 5,
            ..Page::default()
        };
        assert_eq!(splice.handle_page(&page), None);
        assert_eq!(splice.handle_window(after + 5), None);
        assert_eq!(splice.step(), Step::Live { after: after + 5 });
    }
}

#[test]
fn a_window_that_has_lost_what_the_log_never_had_is_left_by_a_gap() {
    let bounds = Bounds {
        epoch: EPOCH,
        floor: 0,
        head: 5,
    };
    let (mut splice, _) = Splice::begin(ResumeFrom::Live, bounds);
    assert_eq!(splice.handle_window(9), None);
    assert_eq!(
        splice.handle_page(&Page {
            upto: 5,
            ..Page::default()
        }),
        None
    );
    let gap = splice
        .handle_window(9)
        .expect("a gap instead of asking forever");
    assert_eq!((gap.from.map(|p| p.offset), gap.to.offset), (Some(5), 9));
    assert_eq!(splice.step(), Step::Live { after: 9 });
}
