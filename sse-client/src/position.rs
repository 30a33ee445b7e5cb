//! The position of a reader, kept beyond the process.
//!
//! A position is saved when the consumer asks for the next event, because only then is the last one
//! processed. A process that crashes in between gets that event again: at least once, never a gap. An interval lies
//! between two saves, so that a fast stream does not keep the disk busy; the latest position is saved when the source
//! is dropped or closed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sse_protocol::EventId;

/// The error of a store.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps a position.
///
/// A pair of functions is a store as well, see [`position_fn`].
pub trait PositionStore: Send + 'static {
    /// The position saved last; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read. The source is not built then: to begin somewhere else would be a silent gap.
    fn load(&mut self) -> Result<Option<EventId>, StoreError>;

    /// Saves a position. Called on the task that reads the source, so it should be short.
    ///
    /// # Errors
    ///
    /// When it cannot be saved. The error becomes a notice, and the next position is tried again.
    fn save(&mut self, id: &EventId) -> Result<(), StoreError>;
}

/// A position in a file of its own.
///
/// The file is written beside its place, synced, and renamed into it, so that it always holds a whole
/// position, also after a power cut.
///
/// ```no_run
/// use sse_client::{EventSource, FilePosition};
///
/// let events = EventSource::builder("https://hub.example/events")
///     .position(FilePosition::new("reader.position"))
///     .build()?;
/// # Ok::<(), sse_client::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FilePosition {
    path: PathBuf,
}

impl FilePosition {
    /// A position in the file at `path`, which need not exist yet; its folder must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_none(&self, because: &str) -> StoreError {
        format!("{} holds no position: {because}", self.path.display()).into()
    }
}

impl PositionStore for FilePosition {
    fn load(&mut self) -> Result<Option<EventId>, StoreError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Better told now than with the first position that cannot be saved.
                let folder = self.path.parent().filter(|path| *path != Path::new(""));
                if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                    return Err(format!("there is no folder {}", folder.display()).into());
                }
                return Ok(None);
            }
            Err(error) => return Err(format!("{}: {error}", self.path.display()).into()),
        };
        if text.len() > MAX_FILE_BYTES {
            return Err(self.is_none("it is too long"));
        }
        let text = String::from_utf8(text).map_err(|_| self.is_none("it is not text"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let id = EventId::new(text).map_err(|_| self.is_none("it has several lines"))?;
        Ok(Some(id))
    }

    fn save(&mut self, id: &EventId) -> Result<(), StoreError> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let written = write_synced(&beside, id).and_then(|()| fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        Ok(written?)
    }
}

fn write_synced(path: &Path, id: &EventId) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(id.as_str().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_data()
}

/// A store made of two functions, for a database or a test.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use sse_client::{EventId, PositionStore, position_fn};
///
/// let cell = Arc::new(Mutex::new(None::<EventId>));
/// let kept = Arc::clone(&cell);
/// let mut store = position_fn(
///     move || Ok(kept.lock().unwrap().clone()),
///     move |id| {
///         *cell.lock().unwrap() = Some(id.clone());
///         Ok(())
///     },
/// );
/// store.save(&EventId::new("7")?)?;
/// assert_eq!(store.load()?, Some(EventId::new("7")?));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn position_fn<L, S>(load: L, save: S) -> impl PositionStore
where
    L: FnMut() -> Result<Option<EventId>, StoreError> + Send + 'static,
    S: FnMut(&EventId) -> Result<(), StoreError> + Send + 'static,
{
    Functions { load, save }
}

struct Functions<L, S> {
    load: L,
    save: S,
}

impl<L, S> PositionStore for Functions<L, S>
where
    L: FnMut() -> Result<Option<EventId>, StoreError> + Send + 'static,
    S: FnMut(&EventId) -> Result<(), StoreError> + Send + 'static,
{
    fn load(&mut self) -> Result<Option<EventId>, StoreError> {
        (self.load)()
    }

    fn save(&mut self, id: &EventId) -> Result<(), StoreError> {
        (self.save)(id)
    }
}

/// Decides when to save.
///
/// ```text
///   delivered ──▶ (the consumer comes back) ──▶ due ──▶ (the interval is over) ──▶ saved
/// ```
pub(crate) struct Keeper {
    store: Option<Box<dyn PositionStore>>,
    interval: Duration,
    /// The position after the event that the consumer has in hand.
    in_hand: String,
    /// The position after the events that are dealt with.
    settled: String,
    /// Whether `in_hand` is still in hand.
    holding: bool,
    /// Whether `settled` differs from what is saved.
    due: bool,
    saved_at: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(store: Option<Box<dyn PositionStore>>, interval: Duration) -> Self {
        Self {
            store,
            interval,
            in_hand: String::new(),
            settled: String::new(),
            holding: false,
            due: false,
            saved_at: None,
        }
    }

    /// The position that `id` was loaded from needs no saving.
    pub(crate) fn load(&mut self) -> Result<Option<EventId>, StoreError> {
        let Some(store) = &mut self.store else {
            return Ok(None);
        };
        let id = store.load()?;
        if let Some(id) = &id {
            id.as_str().clone_into(&mut self.in_hand);
            id.as_str().clone_into(&mut self.settled);
        }
        Ok(id)
    }

    /// An event is handed over; `id` is the position after it.
    pub(crate) fn deliver(&mut self, id: &str) {
        if self.store.is_some() && self.in_hand != id {
            id.clone_into(&mut self.in_hand);
            self.holding = true;
        }
    }

    /// The consumer came back, so that the event it had in hand is dealt with.
    pub(crate) fn come_back(&mut self) {
        if self.holding {
            self.holding = false;
            self.settled.clone_from(&self.in_hand);
            self.due = true;
        }
    }

    /// When to call [`save_if_due`](Self::save_if_due).
    pub(crate) fn next_save(&self, now: Instant) -> Option<Instant> {
        self.due
            .then(|| self.saved_at.map_or(now, |at| at + self.interval))
    }

    /// Saves if something is to be saved and the interval is over.
    pub(crate) fn save_if_due(&mut self, now: Instant) -> Result<(), StoreError> {
        match self.next_save(now) {
            Some(at) if at <= now => self.save(now),
            _ => Ok(()),
        }
    }

    /// Saves what is due, whatever the interval.
    pub(crate) fn save_now(&mut self, now: Instant) -> Result<(), StoreError> {
        if self.due { self.save(now) } else { Ok(()) }
    }

    fn save(&mut self, now: Instant) -> Result<(), StoreError> {
        // Also after a failure, so that a full disk is not hammered.
        self.saved_at = Some(now);
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Ok(id) = EventId::new(self.settled.as_str()) else {
            return Ok(()); // cannot happen: it came from a decoder
        };
        store.save(&id)?;
        self.due = false;
        Ok(())
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

/// No position is longer; a guard against reading a wrong file.
const MAX_FILE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Saved = Arc<Mutex<Vec<String>>>;

    fn keeper(interval: Duration) -> (Keeper, Saved) {
        let saved = Saved::default();
        let log = Arc::clone(&saved);
        let store = position_fn(
            || Ok(None),
            move |id: &EventId| {
                log.lock().unwrap().push(id.to_string());
                Ok(())
            },
        );
        (Keeper::new(Some(Box::new(store)), interval), saved)
    }

    #[test]
    fn a_position_is_saved_only_when_the_consumer_comes_back() {
        let (mut keeper, saved) = keeper(Duration::ZERO);
        let now = Instant::now();
        keeper.deliver("1");
        keeper.save_if_due(now).unwrap();
        assert!(
            saved.lock().unwrap().is_empty(),
            "the consumer still has it in hand"
        );
        keeper.come_back();
        keeper.save_if_due(now).unwrap();
        keeper.save_if_due(now).unwrap();
        assert_eq!(*saved.lock().unwrap(), ["1"]);
    }

    #[test]
    fn the_event_in_hand_does_not_hide_the_one_before_it() {
        let (mut keeper, saved) = keeper(Duration::from_secs(1));
        let now = Instant::now();
        for id in ["1", "2", "3"] {
            keeper.come_back();
            keeper.deliver(id);
        }
        keeper.save_now(now).unwrap();
        assert_eq!(
            *saved.lock().unwrap(),
            ["2"],
            "3 may not have been dealt with"
        );
    }

    #[test]
    fn saves_are_held_apart_and_the_last_one_is_not_forgotten() {
        let second = Duration::from_secs(1);
        let (mut keeper, saved) = keeper(second);
        let now = Instant::now();
        for n in 0..1000 {
            keeper.deliver(&n.to_string());
            keeper.come_back();
            keeper.save_if_due(now).unwrap();
        }
        assert_eq!(*saved.lock().unwrap(), ["0"]);
        assert_eq!(keeper.next_save(now), Some(now + second));
        keeper.save_if_due(now + second).unwrap();
        assert_eq!(*saved.lock().unwrap(), ["0", "999"]);
        assert_eq!(keeper.next_save(now), None);
    }

    #[test]
    fn a_file_holds_a_whole_position_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FilePosition::new(folder.path().join("at"));
        assert_eq!(store.load().unwrap(), None);
        for text in ["1-7", "", "id with spaces ü"] {
            store.save(&EventId::new(text).unwrap()).unwrap();
            assert_eq!(store.load().unwrap().unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(store.path(), "two\nlines\n").unwrap();
        assert!(
            store.load().is_err(),
            "a damaged position is an error, not a beginning"
        );
        let mut nowhere = FilePosition::new(folder.path().join("no/such/folder"));
        assert!(nowhere.save(&EventId::new("1").unwrap()).is_err());
        let told = nowhere.load().unwrap_err().to_string();
        assert!(told.starts_with("there is no folder "), "{told}");
    }
}
