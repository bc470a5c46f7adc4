//! The one thread that writes to standard error.
//!
//! A pipe that nobody reads, or a terminal whose output was stopped, blocks whoever writes there. It must not delay a signal,
//! the end of `--wait`, or a command that has the lock. So only this thread writes, and the others wait for it for a limited
//! time.

use std::collections::VecDeque;
use std::io::{Write, stderr};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// A write that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Number of texts that wait behind one that blocks. The next ones are dropped.
const MOST: usize = 100;

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { started: false, texts: VecDeque::new(), busy_since: None });
static CHANGED: Condvar = Condvar::new();

struct Queue {
    /// True once the thread runs. Before, a text is written where it is said.
    started: bool,
    texts: VecDeque<String>,
    /// Start of the write under way, or of the next one. `None` if all is written.
    busy_since: Option<Instant>,
}

/// Starts the thread. Without one, a write that blocks delays withlock, which does no other harm.
pub(crate) fn start() {
    queue().started = Builder::new().name("writer".to_string()).spawn(keep_writing).is_ok();
}

/// Writes a text after those before it, without waiting for that. A failed write changes nothing else.
pub(crate) fn put(text: String) {
    let mut queue = queue();
    if !queue.started {
        drop(queue);
        return write(&text);
    }
    if queue.texts.len() < MOST {
        queue.texts.push_back(text);
        queue.busy_since.get_or_insert_with(Instant::now);
        CHANGED.notify_all();
    }
}

/// Writes a text that soon makes way for another, unless a write is under way.
pub(crate) fn put_if_idle(text: String) {
    let is_idle = queue().busy_since.is_none();
    if is_idle {
        put(text);
    }
}

/// Waits until all is written, but not for a write that blocks.
pub(crate) fn flush() {
    let began = Instant::now();
    let mut queue = queue();
    while let Some(since) = queue.busy_since {
        let left = PATIENCE.saturating_sub(since.min(began).elapsed());
        if left.is_zero() {
            return;
        }
        let waited = CHANGED.wait_timeout(queue, left);
        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn keep_writing() {
    let mut queue = queue();
    loop {
        if let Some(text) = queue.texts.pop_front() {
            drop(queue);
            write(&text);
            queue = self::queue();
            queue.busy_since = (!queue.texts.is_empty()).then(Instant::now);
            CHANGED.notify_all();
        } else {
            queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}
