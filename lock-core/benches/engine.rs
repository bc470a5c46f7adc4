//! What the engine itself costs: time and allocations, without a server.
//!
//! `cargo bench -p lock-core`

use divan::Bencher;
use divan::counter::ItemsCount;
use lock_core::{
    Config, Engine, Fence, Instant, LockId, LockName, Mode, Outcome, Reply, Request, SessionName,
    Timing, advisory, table,
};
use std::time::Duration;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// An engine, its clock, and a table that is always free.
struct Scene {
    engine: Engine,
    now: Instant,
    names: Vec<LockName>,
}

impl Scene {
    /// With `held` locks, and one more name.
    fn new(held: usize) -> Self {
        let timing = Timing::default();
        let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 42));
        let names = (0..=held).map(|n| LockName::new(&format!("lock-{n}")).expect("good"));
        let mut scene = Self { engine, now: Instant::from_nanos(0), names: names.collect() };
        for at in 0..held {
            scene.acquire(at);
        }
        scene.answer();
        scene
    }

    fn acquire(&mut self, at: usize) -> LockId {
        self.engine.acquire(self.now, self.names[at].clone(), false, None)
    }

    /// Answers all requests that are due; how many there were.
    fn answer(&mut self) -> usize {
        let mut requests = 0;
        while let Some(dispatch) = self.engine.poll_request(self.now) {
            requests += 1;
            let claims = dispatch.request.claims().len();
            let reply = match dispatch.request {
                Request::Acquire { .. } => {
                    Reply::Outcomes(vec![Outcome::Granted(Fence::new(1)); claims])
                }
                _ => Reply::Outcomes(vec![Outcome::Done; claims]),
            };
            self.engine.handle_reply(self.now, dispatch.id, Ok(reply));
        }
        while self.engine.poll_event().is_some() {}
        requests
    }

    fn acquire_and_release(&mut self) {
        self.now = self.now.after(Duration::from_nanos(1));
        let id = self.acquire(self.names.len() - 1);
        assert_eq!(self.answer(), 1);
        self.engine.release(self.now, id);
        assert_eq!(self.answer(), 1);
    }
}

/// One lock taken and freed while others are held.
#[divan::bench(args = [0, 100, 10_000], sample_size = 1_000)]
fn acquire_and_release(bencher: Bencher<'_, '_>, held: usize) {
    let mut scene = Scene::new(held);
    bencher.bench_local(|| scene.acquire_and_release());
}

/// All leases renewed, in batches of 512.
#[divan::bench(args = [1, 512, 10_000])]
fn renew(bencher: Bencher<'_, '_>, held: usize) {
    let mut scene = Scene::new(held);
    bencher.counter(ItemsCount::new(held)).bench_local(|| {
        scene.now = scene.now.after(Timing::DEFAULT_TTL / 3);
        assert_eq!(scene.answer(), held.div_ceil(512));
    });
}

/// As many tasks want a lock of their own each at once.
#[divan::bench(args = [512])]
fn acquire_and_release_many(bencher: Bencher<'_, '_>, many: usize) {
    let mut scene = Scene::new(many);
    scene = Scene { engine: Scene::new(0).engine, ..scene };
    bencher.counter(ItemsCount::new(many)).bench_local(|| {
        scene.now = scene.now.after(Duration::from_nanos(1));
        let ids: Vec<LockId> = (0..many).map(|at| scene.acquire(at)).collect();
        assert_eq!(scene.answer(), 1);
        for id in ids {
            scene.engine.release(scene.now, id);
        }
        assert_eq!(scene.answer(), 1);
    });
}

/// As many want one name, and wait behind a lock of the same process until their time is over for all at once.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 5, sample_size = 1)]
fn waiters_time_out(bencher: Bencher<'_, '_>, many: usize) {
    bencher.counter(ItemsCount::new(many)).bench_local(|| {
        let mut scene = Scene::new(0);
        scene.acquire(0);
        scene.answer();
        let give_up = scene.now.after(Duration::from_secs(1));
        for _ in 0..many {
            scene.engine.acquire(scene.now, scene.names[0].clone(), false, Some(give_up));
        }
        scene.now = give_up;
        scene.engine.handle_timeout(scene.now);
        scene.answer();
        assert_eq!(scene.engine.attempts(), 1);
    });
}

/// As many share one name over one connection, and free it one after another.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 5, sample_size = 1)]
fn sharers_come_and_go(bencher: Bencher<'_, '_>, many: usize) {
    let (timing, name) = (Timing::default(), LockName::new("a").expect("good"));
    bencher.counter(ItemsCount::new(many)).bench_local(|| {
        let mut engine =
            Engine::new(advisory::capabilities(advisory::WAITING, None), Config::new(timing, 42));
        let mut now = Instant::from_nanos(0);
        let take = |_| engine.acquire_as(now, name.clone(), Mode::Shared, false, None);
        let ids: Vec<LockId> = (0..many).map(take).collect();
        answer_all(&mut engine, now);
        now = now.after(Duration::from_nanos(1));
        for id in ids {
            engine.release(now, id);
        }
        answer_all(&mut engine, now);
        assert_eq!(engine.attempts(), 0);
    });
}

/// Grants and frees all that is asked for on connections.
fn answer_all(engine: &mut Engine, now: Instant) {
    while let Some(dispatch) = engine.poll_request(now) {
        engine.handle_reply(now, dispatch.id, Ok(granted(&dispatch.request)));
    }
    while engine.poll_event().is_some() {}
}

fn granted(request: &Request) -> Reply {
    match request {
        Request::Open { .. } => Reply::Opened(SessionName::default()),
        Request::Acquire { claims, .. } => {
            Reply::Outcomes(vec![Outcome::Granted(Fence::new(1)); claims.len()])
        }
        Request::Wait { .. } => Reply::one(Outcome::Granted(Fence::new(1))),
        _ => Reply::Outcomes(vec![Outcome::Done; request.claims().len().max(1)]),
    }
}
