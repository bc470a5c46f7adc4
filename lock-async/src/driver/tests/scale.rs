//! Many locks, callers and tasks in one process. The cost of one does not depend on their number.
//!
//! Each test takes seconds of processor time. It would take many minutes if a turn of the task walked all
//! locks. The machine's other work is not counted.

use super::*;
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Context;
use tokio::task::{JoinSet, yield_now};

const MANY: usize = 100_000;
/// Limit of the thread's processor time. Some loop walks all locks if a test takes longer.
const TOO_LONG: Duration = Duration::from_secs(40);
/// A day: no lease ends, and no deadline passes.
const TTL: Duration = Duration::from_secs(86_400);

fn timing() -> Timing {
    let hour = Duration::from_secs(3_600);
    Timing::new(TTL).and_then(|timing| timing.with_request(hour)).expect("good")
}

fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("since the thread began")
}

/// Runs `what` on this thread, within the limit.
async fn soon(what: impl Future<Output = ()>) {
    let (mut what, began) = (pin!(what), own_time());
    poll_fn(|cx| {
        let took = own_time() - began;
        assert!(took < TOO_LONG, "{took:?}");
        what.as_mut().poll(cx)
    })
    .await;
}

/// Polls until `so` holds.
async fn until_at_last(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs `many` of these to their ends, each in a task of its own.
async fn each<W: Future<Output = ()> + Send + 'static>(many: usize, what: impl Fn(usize) -> W) {
    let mut all: JoinSet<()> = (0..many).map(what).collect();
    while let Some(one) = all.join_next().await {
        one.expect("no panic");
    }
}

/// A table with scripted answers.
#[derive(Clone, Default)]
struct Oracle(Arc<Says>);

#[derive(Default)]
struct Says {
    /// True if someone else holds every lock.
    busy: AtomicBool,
    /// True if no command is answered.
    mute: AtomicBool,
    /// True if the table was deleted.
    gone: AtomicBool,
    asked: AtomicUsize,
}

impl Backend for Oracle {
    async fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        self.0.asked.fetch_add(1, SeqCst);
        while self.0.mute.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.0.gone.load(SeqCst) {
            return Err(Failure::Gone("deleted".to_string()));
        }
        let busy = self.0.busy.load(SeqCst);
        let claims = request.claims().len();
        Ok(match request {
            Request::Acquire { .. } if busy => Reply::Outcomes(vec![Outcome::Busy(None); claims]),
            Request::Acquire { .. } => {
                Reply::Outcomes(vec![Outcome::Granted(Fence::new(1)); claims])
            }
            Request::Probe { .. } if busy => Reply::Outcomes(vec![Outcome::Busy(None); claims]),
            Request::Probe { .. } => Reply::Outcomes(vec![Outcome::Free; claims]),
            _ => Reply::Outcomes(vec![Outcome::Done; claims]),
        })
    }

    async fn close(self) {}
}

struct Only(Option<Oracle>);

impl Backends for Only {
    type Backend = Oracle;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self) -> Option<Oracle> {
        self.0.take()
    }
}

fn table() -> (Oracle, Locks, Driver) {
    let oracle = Oracle::default();
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing(), 1));
    let driver = Driver::start(engine, Only(Some(oracle.clone())), TTL);
    (oracle, Locks::with(driver.clone(), Check::default()), driver)
}

/// Makes the task do `many` turns that concern nobody else.
async fn turns(driver: &Driver, many: usize) {
    let wish = Arc::new(Wish::new("somebody else's").expect("good"));
    for _ in 0..many {
        drop(driver.acquire(&wish));
        yield_now().await;
    }
}

#[tokio::test]
async fn waiters_of_one_name_follow_one_another() {
    let (_oracle, locks, _driver) = table();
    let told = Arc::new(AtomicUsize::new(0));
    let all = each(MANY, |_| {
        let (locks, told) = (locks.clone(), told.clone());
        async move {
            let count = |_: &Progress| _ = told.fetch_add(1, SeqCst);
            let guard = locks.acquire("a").on_waiting(count).await;
            guard.expect("granted").release().await.expect("released");
        }
    });
    soon(all).await;
    assert!(told.load(SeqCst) <= 4 * MANY, "who waits is not told of each that goes before");
}

#[tokio::test]
async fn waiters_time_out_together() {
    let (oracle, locks, _driver) = table();
    oracle.0.busy.store(true, SeqCst);
    let all = each(MANY, |n| {
        let locks = locks.clone();
        // Half of the callers want the same lock.
        let name = if n % 2 == 0 { "a".to_string() } else { n.to_string() };
        async move {
            let got = locks.try_lock_for(&name, Duration::from_millis(300)).await;
            assert!(got.expect("asked").is_none());
        }
    });
    soon(all).await;
}

#[tokio::test]
async fn holders_are_told_of_a_loss_together() {
    let (oracle, locks, _driver) = table();
    let held = Arc::new(AtomicUsize::new(0));
    let losing = async {
        until_at_last(|| held.load(SeqCst) == MANY).await;
        let other = locks.lock("other").await.expect("taken");
        oracle.0.gone.store(true, SeqCst);
        other.release().await.expect_err("gone");
    };
    let all = each(MANY, |n| {
        let (locks, held) = (locks.clone(), held.clone());
        async move {
            let guard = locks.lock(&n.to_string()).await.expect("taken");
            held.fetch_add(1, SeqCst);
            assert!(matches!(guard.lost().await, LostReason::Gone { .. }));
        }
    });
    soon(async { _ = tokio::join!(all, losing) }).await;
}

#[tokio::test]
async fn releases_and_shutdowns_are_waited_for_together() {
    let (oracle, locks, driver) = table();
    let others = Arc::new(AtomicUsize::new(0));
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    let stays = locks.lock("stays").await.expect("taken");
    let all = each(2 * MANY, |n| {
        let (locks, others, held) = (locks.clone(), others.clone(), held.clone());
        async move {
            if n < MANY {
                let guard = locks.lock(&n.to_string()).await.expect("taken");
                others.fetch_add(1, SeqCst);
                held.acquire().await.expect("open").forget();
                guard.release().await.expect("released");
            } else {
                held.acquire().await.expect("open").forget();
                others.fetch_add(1, SeqCst);
                locks.shutdown().await.expect("in order");
            }
        }
    });
    let ending = async {
        until_at_last(|| others.load(SeqCst) == MANY).await;
        oracle.0.mute.store(true, SeqCst);
        held.add_permits(2 * MANY);
        until_at_last(|| others.load(SeqCst) == 2 * MANY).await;
        turns(&driver, MANY).await;
        oracle.0.mute.store(false, SeqCst);
        drop(stays);
    };
    soon(async { _ = tokio::join!(all, ending) }).await;
}

/// Connections to a server on which each acquire waits until it may have its lock.
#[derive(Clone, Default)]
struct Queue(Arc<Waits>);

#[derive(Default)]
struct Waits {
    waiting: AtomicUsize,
    over: AtomicBool,
    /// Number of polls of idle connections.
    looks: AtomicUsize,
    opened: AtomicUsize,
    dropped: AtomicUsize,
}

impl Backends for Queue {
    type Backend = Queue;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self) -> Option<Queue> {
        self.0.opened.fetch_add(1, SeqCst);
        Some(self.clone())
    }
}

impl Backend for Queue {
    async fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        Ok(match request {
            Request::Open { .. } => Reply::Opened(SessionName::default()),
            Request::Acquire { claims, .. } => {
                Reply::Outcomes(vec![Outcome::Busy(None); claims.len()])
            }
            Request::Release { claims, .. } => Reply::Outcomes(vec![Outcome::Done; claims.len()]),
            Request::Wait { .. } => {
                self.0.waiting.fetch_add(1, SeqCst);
                if !self.0.over.load(SeqCst) {
                    std::future::pending::<()>().await;
                }
                Reply::Outcomes(vec![Outcome::Granted(Fence::new(1))])
            }
            _ => Reply::one(Outcome::Done),
        })
    }

    fn poll_idle(&mut self, _cx: &mut Context<'_>) {
        self.0.looks.fetch_add(1, SeqCst);
    }

    async fn close(self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }

    async fn cut(self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

fn connections(most: usize) -> (Queue, Locks, Driver) {
    let queue = Queue::default();
    let engine = Engine::new(advisory::capabilities(most, None), Config::new(timing(), 1));
    let driver = Driver::start(engine, queue.clone(), TTL);
    (queue, Locks::with(driver.clone(), Check::default()), driver)
}

#[tokio::test]
async fn connections_that_wait_are_cut_off_together() {
    let (queue, locks, _driver) = connections(MANY);
    let all = async {
        let mut waits: JoinSet<()> = (0..MANY)
            .map(|n| {
                let locks = locks.clone();
                async move { drop(locks.lock(&n.to_string()).await) }
            })
            .collect();
        until_at_last(|| queue.0.waiting.load(SeqCst) == MANY).await;
        waits.abort_all();
        until_at_last(|| queue.0.dropped.load(SeqCst) + 2 >= MANY).await;
    };
    soon(all).await;
}

#[tokio::test]
async fn connections_that_nobody_uses_are_not_looked_at_each_turn() {
    const SOME: usize = 2_000;
    let (queue, locks, driver) = connections(SOME);
    queue.0.over.store(true, SeqCst);
    let mut guards = Vec::new();
    for n in 0..SOME {
        guards.push(locks.lock(&n.to_string()).await.expect("taken"));
    }
    turns(&driver, SOME).await;
    assert!(queue.0.opened.load(SeqCst) >= SOME, "each has one");
    let looks = queue.0.looks.load(SeqCst);
    assert!(looks <= 20 * SOME, "{looks}");
}
