//! The open database, lent to readers, and taken back when it must be opened anew or closed.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use redb::Database;

/// Where the database is.
///
/// Nobody reads or writes the disk under this lock: a reader borrows the database and gives it back.
pub(super) struct SharedDatabase {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    /// There, and lent so many times.
    There {
        db: Arc<Database>,
        lent: usize,
    },
    /// Asked back; it goes when the last reader has returned it, and will come again.
    Away {
        lent: usize,
    },
    Closed,
}

impl SharedDatabase {
    pub(super) fn new(db: Database) -> Self {
        let state = State::There {
            db: Arc::new(db),
            lent: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Borrows the database; waits while it is away, `None` when it is closed.
    pub(super) fn lend(&self) -> Option<Lease<'_>> {
        let mut state = self.state.lock();
        loop {
            match &mut *state {
                State::There { db, lent } => {
                    *lent += 1;
                    return Some(Lease {
                        db: Some(Arc::clone(db)),
                        database: self,
                    });
                }
                State::Away { .. } => self.changed.wait(&mut state),
                State::Closed => return None,
            }
        }
    }

    /// Borrows the database if it is there now.
    pub(super) fn try_lend(&self) -> Option<Lease<'_>> {
        let mut state = self.state.lock();
        let State::There { db, lent } = &mut *state else {
            return None;
        };
        *lent += 1;
        Some(Lease {
            db: Some(Arc::clone(db)),
            database: self,
        })
    }

    /// Takes the database back and drops it, once nobody has it any more.
    pub(super) fn take_away(&self) {
        let mut state = self.state.lock();
        let State::There { lent, .. } = *state else {
            return;
        };
        let taken = std::mem::replace(&mut *state, State::Away { lent });
        while matches!(*state, State::Away { lent } if lent > 0) {
            self.changed.wait(&mut state);
        }
        drop(state);
        drop(taken);
    }

    /// Puts it there again.
    pub(super) fn bring(&self, db: Database) {
        *self.state.lock() = State::There {
            db: Arc::new(db),
            lent: 0,
        };
        self.changed.notify_all();
    }

    /// Takes it away for good.
    pub(super) fn close(&self) {
        self.take_away();
        *self.state.lock() = State::Closed;
        self.changed.notify_all();
    }
}

/// The database, borrowed.
pub(super) struct Lease<'a> {
    /// Gone only while it is dropped.
    db: Option<Arc<Database>>,
    database: &'a SharedDatabase,
}

impl std::ops::Deref for Lease<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.db
            .as_ref()
            .expect("a lease has the database until it is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // The count goes down after the reference is gone, so that who waits for zero is the last.
        self.db = None;
        let mut state = self.database.state.lock();
        let (State::There { lent, .. } | State::Away { lent }) = &mut *state else {
            return;
        };
        *lent -= 1;
        let is_last = *lent == 0;
        drop(state);
        if is_last {
            self.database.changed.notify_all();
        }
    }
}
