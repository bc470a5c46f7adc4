//! The task's loop: it moves requests to the server and answers back.

use super::pool::ConnectionPool;
use super::repoll::Repoll;
use super::state::State;
use super::worker::Job;
use super::{Call, End};
use crate::alarm::Alarm;
use crate::backend::Backends;
use crate::clock;
use crate::process::Process;
use lock_core::{Dispatch, Failure};
use lock_shared::engine::Engine;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

pub(super) struct Pump<F: Backends> {
    process: Process,
    state: State,
    pool: ConnectionPool<F>,
    calls: mpsc::UnboundedReceiver<Call>,
    /// True once all callers are gone.
    orphaned: bool,
    end: Arc<OnceLock<End>>,
    repoll: Repoll,
    /// The task's timer.
    alarm: Alarm,
}

impl<F: Backends> Pump<F> {
    pub(super) fn new(
        engine: Engine,
        backends: F,
        calls: mpsc::UnboundedReceiver<Call>,
        within: Duration,
        end: Arc<OnceLock<End>>,
    ) -> Self {
        let (state, pool) = (State::new(engine, within), ConnectionPool::new(backends));
        let (process, repoll, alarm) = (Process::current(), Repoll::new(), Alarm::default());
        Self { process, state, pool, calls, orphaned: false, end, repoll, alarm }
    }

    pub(super) async fn run(mut self) {
        if !poll_fn(|cx| self.poll(cx)).await {
            // This is a fork, in which the copied runtime goes on. Nothing here belongs to it.
            return std::mem::forget(self);
        }
        let Self { mut state, pool, end, .. } = self;
        // The last answer may have caused events.
        state.look(clock::now());
        let events = state.end_events();
        let mut goodbyes = pin!(async {
            pool.drop_all().await;
            events.await;
        });
        let time_left = state.told_by().since(clock::now());
        let in_time = tokio::time::timeout(time_left, &mut goodbyes).await.is_ok();
        let _ = end.set(state.end_now());
        if !in_time {
            goodbyes.await;
        }
    }

    /// Is ready when the task is over: false if this is a fork.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.process.is_current() {
            return Poll::Ready(false);
        }
        let Self { repoll, state, pool, calls, orphaned, alarm, .. } = self;
        repoll.poll(cx, |cx| {
            // What has arrived and what was heard leave together.
            arrive(state, pool, cx);
            hear(state, calls, orphaned, cx);
            while !state.is_over() {
                if send(state, pool) {
                    // A new request is sent when it is polled, and may be answered by then.
                    arrive(state, pool, cx);
                }
                let now = clock::now();
                state.look(now);
                if state.engine.has_work() || state.is_over() {
                    continue;
                }
                alarm.set(now, state.timer(now));
                if !alarm.poll(cx) {
                    return Poll::Pending;
                }
            }
            Poll::Ready(true)
        })
    }
}

/// Begins the requests that are due. Returns true if something was.
fn send<F: Backends>(state: &mut State, pool: &mut ConnectionPool<F>) -> bool {
    let mut sent_some = false;
    while state.engine.has_work() {
        sent_some = true;
        let sent = clock::now();
        while let Some(connection) = state.engine.poll_close(sent) {
            pool.drop_connection(connection);
        }
        if state.engine.poll_connect(sent) {
            pool.connect();
        }
        let Some(dispatch) = state.engine.poll_request(sent) else { break };
        let Dispatch { id, connection, request, deadline } = dispatch;
        let job = Job { id, request, sent, budget: deadline.since(sent) };
        if !pool.send(connection, job) {
            let failure = Failure::NotSent("no connection to the server is open".to_string());
            state.engine.handle_reply(clock::now(), id, Err(failure));
        }
    }
    sent_some
}

/// Handles the answers that have arrived.
fn arrive<F: Backends>(state: &mut State, pool: &mut ConnectionPool<F>, cx: &mut Context<'_>) {
    if let Poll::Ready(connected) = pool.poll_connect(cx) {
        state.engine.handle_connect(clock::now(), connected);
    }
    pool.poll(cx);
    while let Some((id, reply)) = pool.next_answer() {
        state.engine.handle_reply(clock::now(), id, reply);
    }
}

/// Handles the calls that have arrived.
fn hear(
    state: &mut State,
    calls: &mut mpsc::UnboundedReceiver<Call>,
    orphaned: &mut bool,
    cx: &mut Context<'_>,
) {
    while !*orphaned && let Poll::Ready(call) = calls.poll_recv(cx) {
        match call {
            Some(call) => state.take(call),
            None => {
                *orphaned = true;
                state.begin_end(clock::now());
            }
        }
    }
}
