//! What becomes of attempts when sessions open, are kept, break and end.

mod keeping;
mod opening;
mod waiting;

use lock_core::{
    Capabilities, Config, ConnectionId, Dispatch, Engine, Event, Failure, Fence, Instant, LockId,
    LockName, LostReason, Mode, NotAcquired, Outcome, Release, Reply, Request, SessionName, Timing,
    advisory,
};
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);
const START: Instant = Instant::from_nanos(1_000_000_000_000);
pub(crate) const FENCE: Fence = Fence::new(7);

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
}

pub(crate) fn advisory() -> Scene {
    Scene::new(advisory::capabilities(advisory::WAITING, None))
}

pub(crate) fn unknown() -> Failure {
    Failure::Unknown("gone quiet".into())
}

pub(crate) fn deadlock() -> Failure {
    Failure::not_now("deadlock".into())
}

pub(crate) fn granted() -> Reply {
    Reply::Outcomes([Outcome::Granted(FENCE)].into())
}

pub(crate) fn busy() -> Reply {
    Reply::Outcomes([Outcome::Busy(None)].into())
}

impl Scene {
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        Self::timed(capabilities, Timing::default())
    }

    pub(crate) fn timed(capabilities: Capabilities, timing: Timing) -> Self {
        let engine = Engine::new(capabilities, Config::new(timing, 42));
        Self { engine, now: START }
    }

    pub(crate) fn wants(&mut self, name: &str) -> LockId {
        self.wants_as(name, Mode::Exclusive)
    }

    fn wants_as(&mut self, name: &str, mode: Mode) -> LockId {
        let name = LockName::new(name).expect("a good name");
        self.engine.acquire_as(self.now, name, mode, false, None)
    }

    /// The next request, within the time it takes to back off.
    pub(crate) fn sends(&mut self) -> Dispatch {
        for _ in 0..10 {
            if let Some(dispatch) = self.engine.poll_request(self.now) {
                return dispatch;
            }
            self.now = self.engine.poll_timeout().expect("something is to be done");
        }
        panic!("nothing is sent");
    }

    pub(crate) fn sends_nothing(&mut self) {
        assert_eq!(self.engine.poll_close(self.now), None);
        assert_eq!(self.engine.poll_request(self.now), None);
    }

    /// This connection is closed now.
    pub(crate) fn closes(&mut self, connection: ConnectionId) {
        assert!(self.engine.has_work());
        assert_eq!(self.engine.poll_close(self.now), Some(connection));
    }

    /// A millisecond later it is answered.
    pub(crate) fn answers(&mut self, dispatch: &Dispatch, reply: Reply) {
        self.now = self.now.after(MS);
        self.engine.handle_reply(self.now, dispatch.id, Ok(reply));
    }

    pub(crate) fn fails(&mut self, dispatch: &Dispatch, failure: Failure) {
        self.now = self.now.after(MS);
        self.engine.handle_reply(self.now, dispatch.id, Err(failure));
    }

    pub(crate) fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}

impl Scene {
    /// A connection is open and its first lock held.
    pub(crate) fn holding() -> (Self, LockId) {
        let mut scene = advisory();
        let id = scene.wants("a");
        scene.opens();
        let claim = scene.sends();
        scene.answers(&claim, granted());
        scene.told();
        (scene, id)
    }

    pub(crate) fn opens(&mut self) -> ConnectionId {
        let open = self.sends();
        assert!(matches!(open.request, Request::Open { .. }), "{open:?}");
        self.answers(&open, Reply::Opened(SessionName::default()));
        open.connection
    }

    /// The home connection says no: the attempt waits on one of its own.
    pub(crate) fn waits(&mut self) -> Dispatch {
        let claim = self.sends();
        self.answers(&claim, busy());
        let connection = self.opens();
        let wait = self.sends();
        assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
        assert_eq!(wait.connection, connection);
        wait
    }
}
