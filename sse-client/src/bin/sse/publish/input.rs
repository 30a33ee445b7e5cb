//! Standard input, line by line.

use std::io::{self, BufRead, Read as _};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Standard input, read by a thread of its own.
pub(super) struct Input {
    lines: mpsc::Receiver<Item>,
}

/// What standard input holds next.
pub(super) enum Item {
    Line(Line),
    /// A line that cannot be sent, and why.
    Unfit {
        number: u64,
        why: String,
    },
    /// Reading failed at this line; nothing follows.
    Failed {
        number: u64,
        error: io::Error,
    },
}

pub(super) struct Line {
    /// Counted from one, lines that cannot be sent included.
    pub(super) number: u64,
    pub(super) text: String,
    /// Its share of [`MAX_WAITING_BYTES`], given back when it is sent.
    _room: OwnedSemaphorePermit,
}

impl Input {
    /// Reads ahead, by two batches of so many lines at most.
    pub(super) fn start(batch: usize) -> Self {
        let (sender, lines) = mpsc::channel(batch * 2);
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            for number in 1.. {
                let item = match read_line(&mut stdin, MAX_LINE_BYTES) {
                    Ok(Read::End) => return,
                    Ok(Read::TooLong) => Item::Unfit {
                        number,
                        why: format!("longer than {MAX_LINE_BYTES} bytes"),
                    },
                    Ok(Read::Line(bytes)) => match text(bytes) {
                        Ok(text) => {
                            let share = u32::try_from(text.len()).unwrap_or(u32::MAX);
                            let room = Arc::clone(&room).acquire_many_owned(share);
                            let Ok(_room) = runtime.block_on(room) else {
                                return;
                            };
                            Item::Line(Line {
                                number,
                                text,
                                _room,
                            })
                        }
                        Err(why) => Item::Unfit { number, why },
                    },
                    Err(error) => Item::Failed { number, error },
                };
                let is_last = matches!(item, Item::Failed { .. });
                if sender.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// Fills `items` with what there is, `limit` at most; waits for the first one. None at the end.
    pub(super) async fn read(&mut self, items: &mut Vec<Item>, limit: usize) {
        self.lines.recv_many(items, limit).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Line(Vec<u8>),
    /// Over the limit; it was read to its end and not kept.
    TooLong,
    End,
}

/// One line without its end (LF or CRLF); the last one need not have one. Never holds more than `limit` bytes and an
/// end, however long the line is.
fn read_line(input: &mut impl BufRead, limit: usize) -> io::Result<Read> {
    let mut line = Vec::new();
    let most = limit as u64 + 2;
    input.take(most).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(Read::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > limit {
        drop(line);
        input.skip_until(b'\n')?;
        return Ok(Read::TooLong);
    }
    Ok(if line.len() > limit {
        Read::TooLong
    } else {
        Read::Line(line)
    })
}

/// Bytes as text, or where they are not.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8 at byte {}", at + 1)
    })
}

/// A line is one event; hubs take bodies of 1 MiB or less by default, but may be told to take more.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Lines read ahead; a single longest line must fit.
const MAX_WAITING_BYTES: usize = 2 * MAX_LINE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8], limit: usize) -> Vec<Read> {
        std::iter::from_fn(|| Some(read_line(&mut input, limit).unwrap()))
            .take_while(|read| *read != Read::End)
            .collect()
    }

    fn line(text: &str) -> Read {
        Read::Line(text.into())
    }

    #[test]
    fn every_line_is_one_event_also_an_empty_and_an_unfinished_one() {
        assert_eq!(
            all(b"a\n\n b \r\nc", 100),
            [line("a"), line(""), line(" b "), line("c")]
        );
        assert_eq!(all(b"a\n", 100), [line("a")]);
        assert!(all(b"", 100).is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_passed_and_the_next_one_is_whole() {
        for end in ["\n", "\r\n"] {
            for length in [1, 2, 3, 4, 5, 6, 7, 100, 10_000] {
                let long = "x".repeat(length);
                let input = format!("a{end}{long}{end}b{end}");
                let middle = if length <= 4 {
                    line(&long)
                } else {
                    Read::TooLong
                };
                assert_eq!(
                    all(input.as_bytes(), 4),
                    [line("a"), middle, line("b")],
                    "{length} {end:?}"
                );
                let unfinished = format!("a{end}{long}");
                assert_eq!(all(unfinished.as_bytes(), 4).len(), 2);
            }
        }
    }

    #[test]
    fn what_is_not_text_says_where() {
        assert_eq!(text(b"caf\xe9".to_vec()), Err("not UTF-8 at byte 4".into()));
        assert_eq!(text("café".into()), Ok("café".into()));
    }
}
