//! Late answers, stopped processes, and panics over an answer.

use super::*;
use std::sync::mpsc::{RecvTimeoutError, channel};

const LATE: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_lease_counts_from_its_request() {
    let fake = Fake::default();
    *fake.0.pause.lock().expect("unpoisoned") = LATE;
    let guard = start(4, &fake).lock("a").await.expect("free");
    let most = guard.valid_for() - LATE;
    assert!(guard.remaining() <= most, "{:?}", guard.remaining());
    let (mut left, mut renewals) = (guard.remaining(), 0);
    while renewals < 2 {
        assert!(guard.is_held());
        let now = guard.remaining();
        assert!(now <= most, "{now:?}");
        renewals += u32::from(now > left);
        left = now;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// No task and no thread of the driver runs meanwhile, as in a process that is stopped.
#[tokio::test]
async fn the_first_call_after_a_stop_past_the_lease_says_that_it_is_over() {
    let locks = start(1, &Fake::default());
    let mut guards = Vec::new();
    for n in 0..4 {
        guards.push(locks.lock(n.to_string()).await.expect("free"));
    }
    let longest = guards.iter().map(crate::Guard::remaining).max().expect("some");
    std::thread::sleep(longest + Duration::from_millis(1));
    let [held, lost, remaining, called] = &guards[..] else { unreachable!("four") };
    assert!(!held.is_held());
    assert!(matches!(lost.lost_reason(), Some(LostReason::Deadline { .. })));
    assert_eq!(remaining.remaining(), Duration::ZERO);
    let (tell, told) = channel();
    called.on_lost(move |reason| tell.send(reason).expect("heard"));
    assert!(matches!(told.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
}

#[tokio::test]
async fn a_callback_for_a_loss_that_has_happened_runs_at_once() {
    let guard = start(1, &mute_after(1)).lock("a").await.expect("free");
    let lost = guard.lost().await;
    for _ in 0..2 {
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        assert_eq!(told.recv_timeout(SOON), Ok(lost.clone()));
    }
}

/// The runtime is held up at the end of a lease that was renewed before.
#[tokio::test]
async fn a_callback_runs_by_the_deadline_of_the_last_renewal() {
    let guard = start(4, &mute_after(3)).lock("a").await.expect("free");
    let (tell, told) = channel();
    guard.on_lost(move |reason| tell.send(reason).expect("heard"));
    // The thread has looked at the first deadline, which was not the last.
    tokio::time::sleep(guard.valid_for() + Duration::from_millis(50)).await;
    assert!(guard.is_held());
    let reason = told.recv_timeout(SOON);
    assert!(matches!(reason, Ok(LostReason::Deadline { .. })), "{reason:?}");
}

/// A future for the loss keeps the state of the hold, but not what callbacks own.
#[tokio::test]
async fn after_a_release_no_callback_runs_and_nothing_of_it_is_left() {
    for is_dropped in [true, false] {
        let guard = start(30, &Fake::default()).lock("a").await.expect("free");
        let lost = guard.lost();
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        match is_dropped {
            true => drop(guard),
            false => guard.release().await.expect("ours"),
        }
        assert_eq!(told.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
        assert!(tokio::time::timeout(LATE, lost).await.is_err(), "it never is");
    }
}

/// Its lease may end before the server answers, which is no loss any more.
#[tokio::test]
async fn callbacks_are_gone_before_the_release_is_asked_for() {
    let fake = Fake::default();
    let guard = start(30, &fake).lock("a").await.expect("free");
    let (tell, told) = channel();
    let asked = AtDrop(Some(move || {
        let began = fake.0.began.lock().expect("unpoisoned").clone();
        tell.send(began).expect("heard");
    }));
    guard.on_lost(move |_| drop(asked));
    guard.release().await.expect("ours");
    assert_eq!(told.recv_timeout(SOON), Ok(vec!["acquire"]));
}

/// Calls this when it is dropped.
struct AtDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtDrop<F> {
    fn drop(&mut self) {
        self.0.take().expect("not dropped before")();
    }
}

/// A timer of the runtime does not count the time of a suspend. An idle task need not look.
#[tokio::test]
async fn the_clock_is_looked_at_while_a_lock_is_held() {
    let (calls, mut heard) = mpsc::unbounded_channel();
    let timing = Timing::new(Duration::from_secs(86_400)).expect("good");
    let (process, end, within) = (Process::current(), Arc::default(), timing.ttl());
    let driver = Driver(Arc::new(Shared { process, calls, valid: timing.valid(), within, end }));
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
    let mut state = super::super::state::State::new(engine, within);
    assert_eq!(state.timer(clock::now()), NO_LIMIT);
    let wish = Arc::new(Wish::new("a").expect("a name"));
    let attempt = driver.acquire(&wish);
    state.take(heard.recv().await.expect("a call"));
    let now = clock::now();
    let request = state.engine.poll_request(now).expect("due");
    let granted = Reply::Outcomes(vec![Outcome::Granted(Fence::new(1))]);
    state.engine.handle_reply(now, request.id, Ok(granted));
    state.look(now);
    let soon = Duration::from_secs(5);
    assert!(state.timer(now) <= now.after(soon), "the next renewal is due in hours");
    drop(attempt);
    state.take(heard.recv().await.expect("a call"));
    let now = clock::now();
    let request = state.engine.poll_request(now).expect("due");
    state.engine.handle_reply(now, request.id, Ok(Reply::Outcomes(vec![Outcome::Done])));
    state.look(now);
    assert!(state.timer(now) > now.after(soon));
}

#[tokio::test]
async fn a_setting_after_on_waiting_keeps_it() {
    let settings: [for<'a> fn(crate::Acquire<'a>) -> crate::Acquire<'a>; 8] = [
        |acquire| acquire.mode(lock_core::Mode::Exclusive),
        |acquire| acquire.permits(1),
        |acquire| acquire.and("b"),
        |acquire| acquire.keep_for(Duration::from_secs(1)),
        |acquire| acquire.ttl(Duration::from_secs(60)),
        |acquire| acquire.label("me"),
        |acquire| acquire.timeout(SOON),
        |acquire| acquire.wait_limit(crate::Wait::Forever),
    ];
    for (n, set) in settings.into_iter().enumerate() {
        let fake = Fake::default();
        let locks = start(30, &fake);
        fake.0.panics.store(true, Ordering::SeqCst);
        let mut news = Vec::new();
        let acquire = locks.acquire("a").on_waiting(|what| news.push(what.clone()));
        drop(set(acquire).await.expect("tried again"));
        assert!(matches!(&news[..], [Progress::Trouble(_)]), "setting {n}: {news:?}");
    }
}

/// The server would confirm the release.
#[tokio::test]
async fn the_release_of_a_lost_lock_tells_of_the_loss() {
    let fake = mute_after(1);
    let guard = start(1, &fake).lock("a").await.expect("free");
    let lost = guard.lost().await;
    fake.0.answers.as_ref().expect("some").add_permits(9);
    assert_eq!(guard.release().await, Err(ReleaseError::Lost(lost)));
    until(|| fake.0.ended.lock().expect("unpoisoned").contains(&"release")).await;
}

#[tokio::test]
async fn releases_without_an_answer_say_so() {
    let fake = mute_after(0);
    let [second, day] = [1, 86_400].map(Duration::from_secs);
    let timing = Timing::new(day).and_then(|timing| timing.with_request(second)).expect("good");
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
    let driver = Driver::start(engine, One(Some(fake.clone())), day);
    let locks = Locks::with(driver, Check::default());
    let mut guards = Vec::new();
    for name in ["a", "b", "c"] {
        fake.0.answers.as_ref().expect("some").add_permits(1);
        guards.push(locks.lock(name).await.expect("free"));
    }
    fake.0.answers.as_ref().expect("some").forget_permits(9);
    let all = guards.into_iter().map(|guard| tokio::time::timeout(SOON, guard.release()));
    for released in futures_util::future::join_all(all).await {
        let released = released.expect("bounded in time");
        assert!(matches!(released, Err(ReleaseError::Unconfirmed { .. })), "{released:?}");
    }
}

/// Its runtime ends while its caller, on another one, waits for the answer.
#[test]
fn a_release_that_outlives_its_runtime_is_not_confirmed() {
    let [ours, theirs] = [0; 2].map(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    });
    let locks = ours.block_on(async { start(30, &mute_after(1)) });
    let guard = ours.block_on(locks.lock("a")).expect("free");
    let mut release = Box::pin(guard.release());
    let first = std::future::poll_fn(|cx| Poll::Ready(release.as_mut().poll(cx).is_pending()));
    assert!(theirs.block_on(first), "nobody answers");
    drop(ours);
    let released = theirs.block_on(async { tokio::time::timeout(SOON, release).await });
    assert!(matches!(released, Ok(Err(ReleaseError::Unconfirmed { .. }))), "{released:?}");
}

/// Gives so many answers.
fn mute_after(answers: usize) -> Fake {
    let answers = Some(Semaphore::new(answers));
    Fake(Arc::new(Script { answers, ..Script::default() }))
}

/// The server has executed the request, and nobody wants the lock any more by the time of the panic.
#[tokio::test]
async fn a_panic_over_the_answer_leaves_no_lock_behind() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    *fake.0.pause.lock().expect("unpoisoned") = Duration::from_millis(20);
    fake.0.panics.store(true, Ordering::SeqCst);
    let waiting = locks.clone();
    let waiter = tokio::spawn(async move { waiting.lock("a").await.map(drop) });
    until(|| fake.0.began.lock().expect("unpoisoned").contains(&"acquire")).await;
    waiter.abort();
    until(|| fake.0.ended.lock().expect("unpoisoned").contains(&"release")).await;
}

#[tokio::test]
async fn a_renewal_that_failed_is_told_until_one_succeeds() {
    let fake = Fake::default();
    let guard = start(9, &fake).lock("a").await.expect("taken");
    assert_eq!(guard.last_failure(), None);
    fake.0.refuses.store(true, Ordering::SeqCst);
    until(|| guard.last_failure().is_some()).await;
    fake.0.refuses.store(false, Ordering::SeqCst);
    until(|| guard.last_failure().is_none()).await;
    assert!(guard.is_held());
}

#[tokio::test]
async fn a_grant_counts_for_a_little_less_than_five_sixths_of_the_ttl() {
    let locks = start(30, &Fake::default());
    let guard = locks.lock("a").await.expect("taken");
    assert_eq!(guard.valid_for(), Duration::from_millis(24_999));
}

#[tokio::test]
async fn an_unconfirmed_release_tells_by_when_the_lock_ends_by_itself() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    let own = Duration::from_secs(90);
    let (one, other) = (locks.acquire("a").ttl(own).await, locks.lock("b").await);
    fake.0.refuses.store(true, Ordering::SeqCst);
    for (guard, ttl) in [(one, own), (other, Duration::from_secs(30))] {
        match guard.expect("free").release().await {
            Err(ReleaseError::Unconfirmed { within, .. }) => assert_eq!(within, ttl),
            other => panic!("{other:?}"),
        }
    }
}
