//! The task's loop: it moves requests to the server and answers back.

use super::pool::ConnectionPool;
use super::state::State;
use super::{Call, End};
use crate::backend::Backends;
use crate::clock;
use crate::process::Process;
use lock_core::{Dispatch, Engine, Failure};
use std::future::{Future, poll_fn};
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
        Self { process: Process::current(), state, pool, calls, orphaned: false, end }
    }

    pub(super) async fn run(mut self) {
        while !self.state.is_over() {
            self.send();
            self.next().await;
            if !self.process.is_current() {
                // This is a fork, in which the copied runtime goes on. Nothing here belongs to it.
                return std::mem::forget(self);
            }
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

    /// Sends the commands that are due.
    fn send(&mut self) {
        loop {
            let sent = clock::now();
            while let Some(connection) = self.state.engine.poll_close(sent) {
                self.pool.drop_connection(connection);
            }
            let Some(dispatch) = self.state.engine.poll_request(sent) else { return };
            let Dispatch { id, connection, request, deadline } = dispatch;
            if !self.pool.send(connection, id, request, sent, deadline.since(sent)) {
                let failure = Failure::NotSent("no connection to the server is open".to_string());
                self.state.engine.handle_reply(clock::now(), id, Err(failure));
            }
        }
    }

    /// Waits for an answer, a call or a timer, and handles it.
    async fn next(&mut self) {
        let now = clock::now();
        self.state.look(now);
        if self.state.engine.has_work() || self.state.is_over() {
            return;
        }
        let mut nap = pin!(tokio::time::sleep(self.state.timer(now).since(now)));
        poll_fn(|cx| {
            if !self.process.is_current() {
                return Poll::Ready(());
            }
            let happened = [self.arrive(cx), self.hear(cx), nap.as_mut().poll(cx).is_ready()];
            if happened.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Handles the answers that have arrived. Returns true if there was one.
    fn arrive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut arrived = false;
        while let Poll::Ready((id, reply)) = self.pool.poll(cx) {
            arrived = true;
            self.state.engine.handle_reply(clock::now(), id, reply);
        }
        arrived
    }

    /// Handles the calls that have arrived. Returns true if there was one.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let mut heard = false;
        while !self.orphaned
            && let Poll::Ready(call) = self.calls.poll_recv(cx)
        {
            heard = true;
            match call {
                Some(call) => self.state.take(call),
                None => {
                    self.orphaned = true;
                    self.state.begin_end(clock::now());
                }
            }
        }
        heard
    }
}
