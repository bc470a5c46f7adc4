//! A hundred thousand of everything in one process, on a small stack.
//!
//! Each takes seconds. It would abort if a step called itself for each of them, and would take an hour and more
//! if a step walked along all of them.

use crate::scenario::{FENCE, START, TTL, name};
use lock_core::{
    Capabilities, Claim, Config, Engine, Event, Failure, Instant, LockId, Mode, Outcome, Reply,
    Request, SessionName, Timing, advisory, consul, table,
};
use std::time::Duration;

const MANY: usize = 100_000;

fn on_a_small_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(test);
    thread.expect("a thread").join().expect("no panic");
}

struct Crowd {
    engine: Engine,
    now: Instant,
    /// The server's reply; [`None`] if it does not reply yet.
    server: fn(&Request) -> Option<Reply>,
}

impl Crowd {
    fn new(capabilities: Capabilities, server: fn(&Request) -> Option<Reply>) -> Self {
        let engine = Engine::new(capabilities, Config::new(Timing::default(), 42));
        Self { engine, now: START, server }
    }

    fn acquire(&mut self, text: &str, mode: Mode, wait: Option<Duration>) -> LockId {
        let give_up = wait.map(|wait| self.now.after(wait));
        self.engine.acquire_as(self.now, name(text), mode, false, give_up)
    }

    /// As many, each of another name.
    fn acquire_each(&mut self, wait: Option<Duration>) -> Vec<LockId> {
        (0..MANY).map(|n| self.acquire(&format!("{n:06}"), Mode::Exclusive, wait)).collect()
    }

    /// As many of one name.
    fn acquire_one(&mut self, mode: Mode, wait: Option<Duration>) -> Vec<LockId> {
        (0..MANY).map(|_| self.acquire("a", mode, wait)).collect()
    }

    /// As many at once, all or none.
    fn acquire_all(&mut self) -> LockId {
        let names = (0..MANY).map(|n| name(&format!("{n:06}"))).collect();
        self.engine.acquire_all(self.now, names, false, None)
    }

    /// All that is due is sent, and answered if the server says anything. How often this event was told.
    fn goes_on(&mut self, counts: fn(&Event) -> bool) -> usize {
        loop {
            while self.engine.poll_close(self.now).is_some() {}
            let Some(dispatch) = self.engine.poll_request(self.now) else { break };
            if let Some(reply) = (self.server)(&dispatch.request) {
                self.engine.handle_reply(self.now, dispatch.id, Ok(reply));
            }
        }
        std::iter::from_fn(|| self.engine.poll_event()).filter(counts).count()
    }

    /// The same until then, whenever something is due.
    fn goes_on_until(&mut self, at: Instant, counts: fn(&Event) -> bool) -> usize {
        let mut counted = self.goes_on(counts);
        while let Some(next) = self.engine.poll_timeout()
            && next <= at
        {
            // Once in a while, as on a machine that is busy.
            self.now = next.after(Duration::from_millis(50)).min(at);
            counted += self.goes_on(counts);
        }
        self.now = at;
        self.engine.handle_timeout(at);
        counted + self.goes_on(counts)
    }

    fn release(&mut self, ids: Vec<LockId>) {
        for id in ids {
            self.engine.release(self.now, id);
        }
    }
}

fn granted(event: &Event) -> bool {
    matches!(event, Event::Granted { .. })
}

fn renewed(event: &Event) -> bool {
    matches!(event, Event::Renewed { .. })
}

fn released(event: &Event) -> bool {
    matches!(event, Event::Released { .. })
}

fn not_acquired(event: &Event) -> bool {
    matches!(event, Event::NotAcquired { .. })
}

fn waiting(event: &Event) -> bool {
    matches!(event, Event::Waiting { .. })
}

fn lost(event: &Event) -> bool {
    matches!(event, Event::Lost { .. })
}

// -- tables --------------------------------------------------------------------------------------

fn table(server: fn(&Request) -> Option<Reply>) -> Crowd {
    Crowd::new(table::capabilities("me", false), server)
}

fn grants(request: &Request) -> Option<Reply> {
    let claims = request.claims().len();
    Some(match request {
        Request::Acquire { .. } => Reply::Outcomes(vec![Outcome::Granted(FENCE); claims]),
        Request::Release { .. } => Reply::Outcomes(vec![Outcome::DoneContended; claims]),
        Request::Probe { .. } => Reply::Outcomes(vec![Outcome::Free; claims]),
        _ => Reply::Outcomes(vec![Outcome::Done; claims]),
    })
}

fn denies(request: &Request) -> Option<Reply> {
    let claims = request.claims().len();
    Some(match request {
        Request::Probe { .. } => Reply::Outcomes(vec![Outcome::Busy(None); claims]),
        _ => Reply::Outcomes(vec![Outcome::Busy(None); claims]),
    })
}

#[test]
fn waiters_of_one_name_that_time_out_in_a_standstill_need_no_stack() {
    on_a_small_stack(|| {
        let mut crowd = table(denies);
        crowd.acquire_one(Mode::Exclusive, Some(Timing::default().request()));
        crowd.goes_on(waiting);
        crowd.now = START.after(TTL * 2);
        assert_eq!(crowd.goes_on(not_acquired), MANY);
        assert_eq!(crowd.engine.attempts(), 0);
    });
}

#[test]
fn waiters_of_one_name_follow_one_another() {
    on_a_small_stack(|| {
        let mut crowd = table(grants);
        let ids = crowd.acquire_one(Mode::Exclusive, None);
        assert_eq!(crowd.goes_on(granted), 1);
        for id in ids {
            crowd.engine.release(crowd.now, id);
            let next = usize::from(crowd.engine.attempts() > 1);
            let told = crowd.goes_on(|event| granted(event) || released(event));
            assert_eq!(told, 1 + next);
            crowd.now = crowd.now.after(Duration::from_secs(1));
        }
        assert_eq!(crowd.engine.attempts(), 0);
    });
}

/// Each is told that somebody has it, and of the first holder with a name, however often it changes hands.
#[test]
fn waiters_of_one_name_are_told_of_a_holder_once() {
    on_a_small_stack(|| {
        let mut crowd = table(denies);
        let ids = crowd.acquire_one(Mode::Exclusive, None);
        assert_eq!(crowd.goes_on(waiting), MANY);
        crowd.server = |request| match request {
            Request::Probe { .. } => grants(request),
            _ => denies(request),
        };
        let mut told = 0;
        for _ in 0..MANY {
            crowd.engine.handle_hint(crowd.now, &name("a"));
            crowd.now = crowd.now.after(Duration::from_millis(300));
            told += crowd.goes_on(waiting);
        }
        assert_eq!(told, 0, "it is freed and taken, by nobody knows whom");
        crowd.server = grants;
        crowd.now = crowd.now.after(Duration::from_secs(1));
        assert_eq!(crowd.goes_on(waiting), MANY - 1);
        for id in ids {
            crowd.engine.release(crowd.now, id);
            crowd.now = crowd.now.after(Duration::from_secs(1));
            assert_eq!(crowd.goes_on(waiting), 0, "each is as good a holder as the one before");
        }
        assert_eq!(crowd.engine.attempts(), 0);
    });
}

#[test]
fn names_are_taken_kept_freed_and_wanted_by_others() {
    on_a_small_stack(|| {
        let mut crowd = table(grants);
        let ids = crowd.acquire_each(None);
        assert_eq!(crowd.goes_on(granted), MANY);
        assert_eq!(crowd.goes_on_until(START.after(TTL / 2), renewed), MANY);
        crowd.release(ids);
        assert_eq!(crowd.goes_on(released), MANY);
    });
}

#[test]
fn names_are_held_and_renewed_and_freed_together() {
    on_a_small_stack(|| {
        let mut crowd = table(grants);
        let id = crowd.acquire_all();
        assert_eq!(crowd.goes_on(granted), 1);
        assert_eq!(crowd.goes_on_until(START.after(TTL / 2), renewed), 1);
        assert!(crowd.engine.held_until(id) > Some(START.after(TTL)));
        crowd.release(vec![id]);
        assert_eq!(crowd.goes_on(released), 1);
        assert_eq!(crowd.engine.attempts(), 0);
    });
}

/// All but the last are renewed meanwhile, and as many come after it in the end.
#[test]
fn names_are_waited_for_and_had_together() {
    on_a_small_stack(|| {
        let mut crowd = table(|request| {
            let last = |claim: &Claim| claim.name.as_str() == "099999";
            let of =
                |claim| if last(claim) { Outcome::Busy(None) } else { Outcome::Granted(FENCE) };
            match request {
                Request::Acquire { claims, .. } => {
                    Some(Reply::Outcomes(claims.iter().map(of).collect()))
                }
                Request::Probe { .. } => denies(request),
                _ => grants(request),
            }
        });
        crowd.acquire_all();
        assert_eq!(crowd.goes_on(waiting), 1);
        assert_eq!(crowd.goes_on_until(START.after(TTL / 2), granted), 0);
        crowd.server = grants;
        assert_eq!(crowd.goes_on_until(START.after(TTL), granted), 1);
    });
}

#[test]
fn names_are_waited_for_and_given_up_together() {
    on_a_small_stack(|| {
        let mut crowd = table(denies);
        crowd.acquire_each(Some(Duration::from_secs(1)));
        assert_eq!(crowd.goes_on_until(START.after(Duration::from_secs(2)), not_acquired), MANY);
        assert_eq!(crowd.engine.attempts(), 0);
    });
}

#[test]
fn leases_are_renewed_beside_waiters() {
    on_a_small_stack(|| {
        let mut crowd = table(grants);
        crowd.acquire_each(None);
        assert_eq!(crowd.goes_on(granted), MANY);
        // Each wants to be looked at before any of the leases.
        for n in 0..MANY {
            crowd.acquire(&format!("{n:06}"), Mode::Exclusive, Some(TTL / 3 + TTL / 12));
        }
        assert_eq!(crowd.goes_on_until(START.after(TTL / 3), renewed), MANY);
    });
}

// -- connections ---------------------------------------------------------------------------------

fn on_connections(request: &Request) -> Option<Reply> {
    Some(match request {
        Request::Open { .. } => Reply::Opened(SessionName::default()),
        Request::Acquire { claims, .. } => {
            Reply::Outcomes(vec![Outcome::Granted(FENCE); claims.len()])
        }
        Request::Wait { .. } => return None,
        _ => Reply::Outcomes(vec![Outcome::Done; request.claims().len()]),
    })
}

fn all_taken(request: &Request) -> Option<Reply> {
    match request {
        Request::Acquire { claims, .. } => {
            Some(Reply::Outcomes(vec![Outcome::Busy(None); claims.len()]))
        }
        request => on_connections(request),
    }
}

#[test]
fn sharers_of_one_name_are_let_in_and_go() {
    on_a_small_stack(|| {
        let mut crowd = Crowd::new(advisory::capabilities(advisory::WAITING, None), on_connections);
        let first = crowd.acquire("a", Mode::Exclusive, None);
        let ids = crowd.acquire_one(Mode::Shared, None);
        assert_eq!(crowd.goes_on(granted), 1);
        crowd.engine.release(crowd.now, first);
        assert_eq!(crowd.goes_on(granted), MANY);
        crowd.release(ids);
        // No claim that excludes looks at all attempts that are leaving.
        for _ in 0..MANY {
            crowd.engine.acquire(crowd.now, name("a"), true, Some(crowd.now));
        }
        assert_eq!(crowd.goes_on(released), MANY);
    });
}

#[test]
fn a_connection_is_lost_with_all_its_locks() {
    on_a_small_stack(|| {
        let mut crowd = Crowd::new(advisory::capabilities(advisory::WAITING, None), on_connections);
        crowd.acquire_each(None);
        assert_eq!(crowd.goes_on(granted), MANY);
        crowd.now = START.after(TTL);
        assert_eq!(crowd.goes_on(lost), MANY);
    });
}

#[test]
fn connections_wait_in_the_servers_queue_and_close() {
    on_a_small_stack(|| {
        let mut crowd = Crowd::new(advisory::capabilities(MANY, None), all_taken);
        crowd.acquire_each(Some(Duration::from_secs(1)));
        let over = START.after(Duration::from_secs(1) + Timing::default().answer_grace());
        assert_eq!(crowd.goes_on_until(over, waiting), MANY);
        assert_eq!(crowd.engine.attempts(), 0, "their connections are closed");
        assert!(crowd.engine.sessions() <= 2, "one at home, one that may wait again");
    });
}

// -- records -------------------------------------------------------------------------------------

fn all_locked(request: &Request) -> Option<Reply> {
    Some(match request {
        Request::Open { .. } => Reply::Opened(SessionName::from("s")),
        Request::Acquire { .. } => Reply::one(Outcome::Busy(None)),
        Request::Wait { .. } => return None,
        _ => Reply::one(Outcome::Done),
    })
}

#[test]
fn a_session_ends_while_all_wait_at_the_server() {
    on_a_small_stack(|| {
        let mut crowd = Crowd::new(consul::capabilities("me"), all_locked);
        let ids = crowd.acquire_each(None);
        assert_eq!(crowd.goes_on(waiting), MANY);
        crowd.server = |request| match request {
            Request::KeepAlive { .. } => Some(Reply::one(Outcome::NoSession)),
            request => all_locked(request),
        };
        crowd.goes_on_until(START.after(TTL / 2), waiting);
        crowd.release(ids);
        assert_eq!(crowd.goes_on(released), MANY);
    });
}

#[test]
fn a_server_that_is_gone_is_nobodys_for_all() {
    on_a_small_stack(|| {
        let mut crowd = table(grants);
        crowd.acquire_each(None);
        assert_eq!(crowd.goes_on(granted), MANY);
        crowd.now = START.after(TTL / 3);
        let renewal = crowd.engine.poll_request(crowd.now).expect("a renewal");
        let gone = Failure::Gone("deleted".into());
        crowd.engine.handle_reply(crowd.now, renewal.id, Err(gone));
        assert_eq!(crowd.goes_on(lost), MANY);
    });
}
