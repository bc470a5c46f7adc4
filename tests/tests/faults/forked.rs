//! A forked child has none of its parent's locks. The parent's locks stay the parent's, whatever
//! the child does with its copy.

use fork::{Fork, fork};
use lock_sync::{Error, LostReason};
use lock_tests::place::{Keeps, Place, client};
use lock_tests::proxy::eventually;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const TTL: Duration = Duration::from_secs(60);

/// Does `body` in a process with one thread: a fork of this one would have a copy of whatever other tests have
/// locked.
fn alone(test: &str, body: impl FnOnce()) {
    const ALONE: &str = "LOCK_TESTS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let (_, test) = test.split_once("::").expect("the crate's name first");
    let this = std::env::current_exe().expect("known");
    let ran = std::process::Command::new(this)
        .args(["--exact", test, "--include-ignored", "--test-threads=1", "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .expect("it runs");
    let told = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success() && told[0].contains(" 1 passed"), "{told:?}");
}

/// A check in the child: its text, and whether it holds.
type Check = (&'static str, bool);

/// Forks. The child runs the checks and prints the first that fails; the parent asserts that none did.
fn in_a_child(child: impl FnOnce() -> Vec<Check>) {
    match fork().expect("forked") {
        Fork::Child => {
            let checks = catch_unwind(AssertUnwindSafe(child));
            for (what, right) in checks.unwrap_or_else(|_| vec![("no panic", false)]) {
                if !right {
                    eprintln!("in the child: {what}");
                    std::process::exit(1);
                }
            }
            std::process::exit(0);
        }
        Fork::Parent(child) => {
            let child = Pid::from_raw(child).expect("a pid");
            let ended = waitpid(Some(child), WaitOptions::empty()).expect("waited for");
            assert_eq!(ended.and_then(|(_, status)| status.exit_status()), Some(0));
        }
    }
}

fn blocking(place: &Place) {
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("free");
    let has_names = place.keeps() != Keeps::Advisory;
    let open = || lock_sync::Admin::open(place.config(TTL)).expect("connected");
    let admin = has_names.then(open);
    let mut observer = has_names.then(|| open().observe("a").expect("a name"));
    if let Some(observer) = &mut observer {
        assert!(observer.changed().expect("known").is_some());
    }
    let shared = (Some((locks.clone(), guard)), admin, observer);
    let mut shared = AssertUnwindSafe(shared);
    in_a_child(|| {
        let (Some((locks, guard)), admin, observer) = &mut *shared else {
            return vec![("there", false)];
        };
        let asked = admin.as_mut().map(|admin| admin.list());
        let [first, second] = [0; 2].map(|_| observer.as_mut().map(|observer| observer.changed()));
        let checks = vec![
            ("is_held", !guard.is_held()),
            ("lost", guard.lost_reason() == Some(LostReason::Forked)),
            ("try_lock", matches!(locks.try_lock("b"), Err(Error::Forked))),
            ("shutdown", locks.shutdown() == Ok(())),
            ("admin", asked.is_none_or(|asked| asked == Err(Error::Forked))),
            ("observer", first.is_none_or(|told| told == Err(Error::Forked))),
            ("observer again", second.is_none_or(|told| told == Err(Error::Forked))),
        ];
        *shared = (None, None, None);
        checks
    });
    let (Some((_, guard)), admin, observer) = shared.0 else { panic!("that was the child's copy") };
    assert!(guard.is_held());
    assert_eq!(guard.release(), Ok(()), "on the same connection");
    if let Some(mut admin) = admin {
        assert_eq!(admin.list(), Ok(vec![]), "on the same connection");
    }
    if let Some(mut observer) = observer {
        assert_eq!(observer.changed(), Ok(None), "on the same connection");
    }
}

fn several_threads(place: &Place) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let config = place.config(TTL);
    let locks = runtime.block_on(lock_async::Locks::open(config)).expect("connected");
    let guard = runtime.block_on(locks.lock("a")).expect("free");
    let admin = (place.keeps() != Keeps::Advisory)
        .then(|| runtime.block_on(lock_async::Admin::open(place.config(TTL))).expect("connected"));
    let mut shared = AssertUnwindSafe((Some((locks, guard)), admin));
    in_a_child(|| {
        let own = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut checks = asynchronous_child(&own, shared.0.0.as_ref());
        let asked = shared.1.as_mut().map(|admin| own.block_on(admin.list()));
        let told = asked.is_none_or(|asked| asked == Err(lock_async::Error::Forked));
        checks.push(("admin", told));
        // As in the parent, a client may want its runtime.
        let _inside = own.enter();
        *shared = (None, None);
        checks
    });
    let (Some((_locks, guard)), admin) = shared.0 else { panic!("that was the child's copy") };
    assert!(guard.is_held());
    assert_eq!(runtime.block_on(guard.release()), Ok(()), "on the same connection");
    if let Some(mut admin) = admin {
        assert_eq!(runtime.block_on(admin.list()), Ok(vec![]), "on the same connection");
    }
}

fn asynchronous_child(
    runtime: &Runtime,
    shared: Option<&(lock_async::Locks, lock_async::Guard)>,
) -> Vec<Check> {
    let Some((locks, guard)) = shared else { return vec![("there", false)] };
    let lost = async { tokio::time::timeout(Duration::from_secs(5), guard.lost()).await };
    vec![
        ("is_held", !guard.is_held()),
        ("lost_reason", guard.lost_reason() == Some(LostReason::Forked)),
        ("lost", runtime.block_on(lost) == Ok(LostReason::Forked)),
        (
            "try_lock",
            matches!(runtime.block_on(locks.try_lock("b")), Err(lock_async::Error::Forked)),
        ),
        ("shutdown", runtime.block_on(locks.shutdown()) == Ok(())),
    ]
}

/// The child drops its copy of the runtime, and of all that is on it.
fn one_thread(place: &Place) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = place.config(TTL);
    let locks = runtime.block_on(lock_async::Locks::open(config)).expect("connected");
    let guard = runtime.block_on(locks.lock("a")).expect("free");
    let mut shared = AssertUnwindSafe(Some((runtime, (locks, guard))));
    in_a_child(|| {
        let own = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let checks = asynchronous_child(&own, shared.as_ref().map(|(_, shared)| shared));
        if let Some((runtime, _)) = shared.take() {
            // Without the threads for blocking, which a drop would wait for.
            runtime.shutdown_background();
        }
        checks
    });
    let (runtime, (_locks, guard)) = shared.0.expect("that was the child's copy");
    assert!(guard.is_held());
    assert_eq!(runtime.block_on(guard.release()), Ok(()), "on the same connection");
}

macro_rules! on {
    ($($place:ident $(, $server:literal)?;)*) => {$(
        mod $place {
            use super::Place;

            #[test]
            $(#[ignore = $server])?
            fn a_child_of_blocking_locks() {
                let this = concat!(module_path!(), "::a_child_of_blocking_locks");
                super::alone(this, || super::blocking(&Place::$place()));
            }

            #[test]
            $(#[ignore = $server])?
            fn a_child_of_a_runtime_with_threads() {
                let this = concat!(module_path!(), "::a_child_of_a_runtime_with_threads");
                super::alone(this, || super::several_threads(&Place::$place()));
            }

            #[test]
            $(#[ignore = $server])?
            fn a_child_of_a_runtime_on_one_thread() {
                let this = concat!(module_path!(), "::a_child_of_a_runtime_on_one_thread");
                super::alone(this, || super::one_thread(&Place::$place()));
            }
        }
    )*};
}

on! {
    sqlite;
    postgres, "needs a PostgreSQL server: tests/run starts one";
    postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    mysql, "needs a MySQL server: tests/run starts one";
    mysql_advisory, "needs a MySQL server: tests/run starts one";
    mariadb_advisory, "needs a MariaDB server: tests/run starts one";
    consul, "needs a Consul server: tests/run starts one";
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_runtime_that_goes_on_in_a_child_renews_nothing() {
    let this = concat!(module_path!(), "::a_runtime_that_goes_on_in_a_child_renews_nothing");
    alone(this, || {
        let place = Place::postgres();
        let mut raw = client(place.url());
        let mut expires = || {
            let query = format!("SELECT expires_at::text FROM {}", place.table());
            raw.query_one(&query, &[]).expect("a row").get::<_, String>(0)
        };
        // Renewals every second.
        let config = place.config(Duration::from_secs(3));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let locks = runtime.block_on(lock_async::Locks::open(config)).expect("connected");
        let _guard = runtime.block_on(locks.lock("a")).expect("free");
        let before = expires();
        // Only the child's copy of the runtime runs.
        in_a_child(|| {
            runtime.block_on(async { tokio::time::sleep(Duration::from_secs(2)).await });
            vec![]
        });
        assert_eq!(expires(), before);
    });
}

/// Whether this process has the place's file open.
fn is_open(place: &Place) -> bool {
    let file = place.url().trim_start_matches("sqlite:");
    let mut all = std::fs::read_dir("/proc/self/fd").expect("listed");
    all.any(|fd| {
        std::fs::read_link(fd.expect("an entry").path()).is_ok_and(|to| to.ends_with(file))
    })
}

/// SQLite takes its parent's locks on the file for the child's own.
#[test]
fn a_child_opens_no_sqlite_file_while_its_parent_has_one_open() {
    let this =
        concat!(module_path!(), "::a_child_opens_no_sqlite_file_while_its_parent_has_one_open");
    alone(this, || {
        let (place, other) = (Place::sqlite(), Place::sqlite());
        let blocking = |place: &Place| lock_sync::Locks::open(place.config(TTL)).map(drop);
        let tokio = |place: &Place| {
            let own = Builder::new_current_thread().enable_all().build().expect("a runtime");
            own.block_on(lock_async::Locks::open(place.config(TTL))).map(drop)
        };
        // A closed connection does no harm.
        blocking(&place).expect("connected");
        assert!(eventually(|| !is_open(&place)), "by a thread that is about to end");
        in_a_child(|| vec![("connected", blocking(&place).is_ok() && tokio(&other).is_ok())]);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let kept = place.locks(TTL);
        let _also =
            runtime.block_on(lock_async::Locks::open(place.config(TTL))).expect("connected");
        in_a_child(|| {
            let blocking = blocking(&place).expect_err("refused").to_string();
            let tokio = tokio(&other).expect_err("refused").to_string();
            vec![("told", blocking.contains("forked") && tokio.contains("forked"))]
        });
        assert!(kept.try_lock("a").expect("asked").is_some());
    });
}

/// It holds locks of its own, and people who wait for them look for it.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_child_that_connects_anew_has_its_own_name() {
    let this = concat!(module_path!(), "::a_child_that_connects_anew_has_its_own_name");
    alone(this, || {
        let place = Place::postgres();
        let _ours = place.locks(TTL).lock("a").expect("free");
        in_a_child(|| {
            let own = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let blocking = place.locks(TTL).lock("b").expect("free");
            let locks = own.block_on(lock_async::Locks::open(place.config(TTL)));
            let tokio = own.block_on(locks.expect("connected").lock("c")).expect("free");
            let mut admin = lock_sync::Admin::open(place.config(TTL)).expect("connected");
            let named = format!(" pid {}", std::process::id());
            let mut names = |lock| {
                let holder =
                    admin.status(lock).expect("asked").and_then(|it| it.hold).expect("held");
                holder.label.contains(&named)
            };
            let checks = vec![("a", !names("a")), ("blocking", names("b")), ("tokio", names("c"))];
            drop((blocking, tokio));
            checks
        });
    });
}
