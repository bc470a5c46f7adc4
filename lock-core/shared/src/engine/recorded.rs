//! An engine that writes its calls to a file.

use crate::clock;
use lock_core::record::{Call, Head, Line};
use lock_core::sql::ConnectError;
use lock_core::{
    Capabilities, Config, ConnectionId, Dispatch, DispatchId, Event, Failure, Instant, LockId,
    Reached, Reply, Wanted, Which,
};
use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The variable that names the folder of the traces.
const FOLDER: &str = "LOCK_TRACES";

/// lock-core's engine, whose calls are written to a file of its own in the folder that the environment names, if it does.
///
/// For tests only: each call is written before it returns, wherever the driver makes it, so that the trace of a process that
/// is killed ends with the call before. A file that cannot be written ends the trace, and nothing else.
pub struct Engine {
    engine: lock_core::Engine,
    head: Head,
    file: Option<File>,
}

/// The getters.
impl Deref for Engine {
    type Target = lock_core::Engine;

    fn deref(&self) -> &lock_core::Engine {
        &self.engine
    }
}

impl Engine {
    /// As lock-core's.
    pub fn new(capabilities: Capabilities, config: Config) -> Self {
        let engine = lock_core::Engine::new(capabilities.clone(), config.clone());
        Self::of(engine, true, capabilities, config)
    }

    /// As lock-core's.
    pub fn unconnected(capabilities: Capabilities, config: Config) -> Self {
        let engine = lock_core::Engine::unconnected(capabilities.clone(), config.clone());
        Self::of(engine, false, capabilities, config)
    }

    fn of(
        engine: lock_core::Engine,
        connected: bool,
        capabilities: Capabilities,
        config: Config,
    ) -> Self {
        let (kind, place) = (String::new(), String::new());
        let head = Head { kind, place, connected, capabilities, config };
        Self { engine, head, file: None }
    }

    /// Writes down its calls from now on. It must not have been called yet.
    pub(crate) fn record(&mut self, kind: &str, place: &str) {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        (self.head.kind, self.head.place) = (kind.to_string(), place.to_string());
        self.file = create(Path::new(&folder), place);
        self.write(&self.head.to_text());
    }

    fn write(&mut self, line: &str) {
        let whole = format!("{line}\n");
        // In one piece, so that a line is written or not.
        if self.file.as_mut().is_some_and(|file| file.write_all(whole.as_bytes()).is_err()) {
            self.file = None;
        }
    }

    fn line(&mut self, now: Option<Instant>, call: impl FnOnce() -> Call) {
        if self.file.is_some() {
            let line = Line { read: clock::now(), now, call: call() };
            self.write(&line.to_text());
        }
    }

    /// As lock-core's.
    pub fn want(&mut self, now: Instant, which: Which, wanted: Wanted) -> LockId {
        let id = self.engine.want(now, which.clone(), wanted.clone());
        self.line(Some(now), || Call::Want(which, wanted, id));
        id
    }

    /// As lock-core's.
    pub fn acquire(
        &mut self,
        now: Instant,
        name: lock_core::LockName,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        self.want(now, Which::One(name), Wanted { once, give_up, ..Wanted::default() })
    }

    /// As lock-core's.
    pub fn release_after(&mut self, now: Instant, id: LockId, keep: Option<Duration>) {
        self.engine.release_after(now, id, keep);
        self.line(Some(now), || Call::Release(id, keep));
    }

    /// As lock-core's.
    pub fn open(&mut self, now: Instant) {
        self.engine.open(now);
        self.line(Some(now), || Call::Open);
    }

    /// As lock-core's.
    pub fn close(&mut self, now: Instant) {
        self.engine.close(now);
        self.line(Some(now), || Call::Close);
    }

    /// As lock-core's.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        self.line(Some(now), || Call::Timeout);
    }

    /// As lock-core's.
    pub fn handle_connect(&mut self, now: Instant, result: Result<Reached, ConnectError>) {
        self.engine.handle_connect(now, result.clone());
        self.line(Some(now), || match result {
            Err(error) if error.is_final() => Call::Refused,
            result => Call::Connect(result.map_err(ConnectError::before_request)),
        });
    }

    /// As lock-core's.
    pub fn handle_reply(&mut self, now: Instant, id: DispatchId, reply: Result<Reply, Failure>) {
        self.engine.handle_reply(now, id, reply.clone());
        self.line(Some(now), || Call::Reply(id, reply));
    }

    /// As lock-core's.
    pub fn poll_close(&mut self, now: Instant) -> Option<ConnectionId> {
        let closes = self.engine.poll_close(now);
        self.line(Some(now), || Call::PollClose(closes));
        closes
    }

    /// As lock-core's.
    pub fn poll_connect(&mut self, now: Instant) -> bool {
        let connects = self.engine.poll_connect(now);
        self.line(Some(now), || Call::PollConnect(connects));
        connects
    }

    /// As lock-core's.
    pub fn poll_request(&mut self, now: Instant) -> Option<Dispatch> {
        let dispatch = self.engine.poll_request(now);
        let text = |one: &Dispatch| format!("{one:?}");
        self.line(Some(now), || Call::PollRequest(dispatch.as_ref().map(text)));
        dispatch
    }

    pub(super) fn guard_counts(&mut self, id: LockId, until: Instant) {
        self.line(None, || Call::Guard(id, until));
    }

    /// As lock-core's.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.engine.poll_event()?;
        self.line(None, || Call::Event(format!("{event:?}")));
        Some(event)
    }
}

/// A file that no other engine has. Its name tells the place, so that who looks for the traces of one need not read all.
fn create(folder: &Path, place: &str) -> Option<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut place = file_name(place);
    // Whatever tells one place from others comes last.
    place.drain(..place.len().saturating_sub(200));
    let name = || {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        folder.join(format!("{place}-{}-{number}.trace", std::process::id()))
    };
    (0..1_000).find_map(|_| File::create_new(name()).ok())
}

/// A place as the names of its traces tell it.
pub fn file_name(place: &str) -> String {
    let plain = |one: char| if one.is_ascii_alphanumeric() || one == '_' { one } else { '-' };
    place.chars().map(plain).collect()
}
