//! How much memory a request may take.
//!
//! A request may make the hub hold [`FACTOR`] times its own bytes for a moment, and something beside that which does not depend
//! on its size. What is stored has an overhead for each event, and what is shown may be as large as what was stored before.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::routes::Kind;

/// What the clients have stored so far, at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    pub bytes: usize,
    /// JSON objects, each of them an event, a job or the like.
    pub objects: usize,
    /// Streams that were opened.
    pub streams: usize,
}

/// What one request was, and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub kind: Kind,
    pub status: u16,
    /// Bytes of the URL, the headers and the body.
    pub bytes: usize,
    /// Events in its body, at most.
    pub objects: usize,
    /// Fields and elements in its body, at any depth.
    pub values: usize,
    pub is_compressed: bool,
    /// The most that was held, above what was held before.
    pub peak: usize,
    /// What is held still, the answer given back.
    pub kept: usize,
}

impl Taken {
    /// Holds it against the bounds. Where `REQUEST_FIGURES` is set, it only says what the worst request so far of its kind took.
    ///
    /// # Panics
    ///
    /// When it is too much.
    pub fn check(&self, stored: &Stored) {
        if std::env::var_os("REQUEST_FIGURES").is_some() {
            record(self, stored);
            return;
        }
        let (peak, kept) = (self.max_peak(stored), self.max_kept());
        assert!(
            self.peak <= peak,
            "more than {peak} at once: {self:?}, {stored:?}"
        );
        assert!(
            self.kept <= kept,
            "more than {kept} for good: {self:?}, {stored:?}"
        );
    }

    fn max_peak(&self, stored: &Stored) -> usize {
        let own = FACTOR * self.bytes;
        own + self.base() + self.stored_by_it() + self.encoder() + self.shown_by_it(stored)
    }

    fn max_kept(&self) -> usize {
        let kept = match self.kind {
            Kind::Publish | Kind::Job | Kind::Subscription | Kind::Stream if self.is_done() => {
                FACTOR * self.bytes + self.stored_by_it() + self.encoder() + STREAM_BYTES
            }
            _ => 0,
        };
        kept + TABLES_BYTES
    }

    fn is_done(&self) -> bool {
        self.status < 300
    }

    fn base(&self) -> usize {
        match self.kind {
            Kind::Figures => FIGURES_BYTES,
            Kind::Stream => STREAM_BYTES,
            _ => BASE_BYTES,
        }
    }

    /// Events and their topics, as they are read and once they are stored. Those before a wrong one were read, too.
    fn stored_by_it(&self) -> usize {
        match self.kind {
            Kind::Publish => {
                let topics = self.values.min(self.objects * MAX_TOPICS);
                self.objects * EVENT_BYTES + topics * TOPIC_BYTES
            }
            Kind::Job if self.is_done() => EVENT_BYTES + JOB_COPIES * self.bytes,
            _ => 0,
        }
    }

    fn encoder(&self) -> usize {
        usize::from(self.is_compressed) * ENCODER_BYTES
    }

    fn shown_by_it(&self, stored: &Stored) -> usize {
        let is_shown = match self.kind {
            Kind::Stream | Kind::Poll | Kind::Look => true,
            // A job's new state has the old one in it.
            Kind::Job | Kind::Subscription => true,
            _ => false,
        };
        let shown = FACTOR * stored.bytes + SHOWN_BYTES * (stored.objects + stored.streams);
        usize::from(is_shown) * shown
    }
}

/// As many times its own bytes as a request may take.
const FACTOR: usize = 8;
/// What any request may take, however small: the problem, the first growth of tables and of the buffers of an answer.
const BASE_BYTES: usize = 24 << 10;
/// The same for `/metrics` and the like, whose text is of this size and grows by doubling.
const FIGURES_BYTES: usize = 64 << 10;
/// An event in the body, the log, the window and the answer.
const EVENT_BYTES: usize = 2 << 10;
/// The text of a job's change is held by the log as an event and as a state, by the window, and by the table of jobs.
const JOB_COPIES: usize = 4;
/// A topic of an event.
const TOPIC_BYTES: usize = 512;
/// As many as an event may have.
const MAX_TOPICS: usize = 64;
/// What something that is stored takes where it is shown, beside its text.
const SHOWN_BYTES: usize = 2 << 10;
/// An encoder of compressed streams.
const ENCODER_BYTES: usize = 640 << 10;
/// A stream with its buffers and its first words, or a name's place.
const STREAM_BYTES: usize = 32 << 10;
/// What tables keep that have grown.
const TABLES_BYTES: usize = 4 << 10;

/// The most that was seen of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Most {
    requests: u64,
    /// Of a request's bytes, for requests of [`LARGE_BYTES`] or more.
    factor: f64,
    /// Of what is allowed.
    peak: f64,
    kept: f64,
}

static MOST: Mutex<BTreeMap<(Kind, bool), Most>> = Mutex::new(BTreeMap::new());

fn record(taken: &Taken, stored: &Stored) {
    let mut all = MOST.lock().expect("no panic while it is held");
    let most = all.entry((taken.kind, taken.is_done())).or_default();
    most.requests += 1;
    let of = |part: usize, whole: usize| part as f64 / whole as f64;
    let mut has_grown = false;
    let mut grow = |most: &mut f64, now: f64| {
        if now > *most * 1.05 {
            *most = now;
            has_grown = true;
        }
    };
    if taken.bytes >= LARGE_BYTES {
        grow(&mut most.factor, of(taken.peak, taken.bytes));
    }
    grow(&mut most.peak, of(taken.peak, taken.max_peak(stored)));
    grow(&mut most.kept, of(taken.kept, taken.max_kept()));
    if has_grown {
        eprintln!("{most:.2?} {taken:?} {stored:?}");
    }
}

/// A request so large has a factor that says something.
const LARGE_BYTES: usize = 16 << 10;
