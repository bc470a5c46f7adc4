//! An `Admin` of the async driver on more than one runtime, as tests share one that have a runtime each.

use lock_async::{Admin, Locks, Observer};
use lock_tests::place::Place;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What comes of it in good time.
#[track_caller]
fn soon<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(SOON, work).await }).expect("an answer")
}

async fn list(admin: &mut Admin) -> usize {
    admin.list().await.expect("listed").len()
}

async fn leads(observer: &mut Observer) -> bool {
    observer.changed().await.expect("known").is_some()
}

/// The first one lives and runs nothing; the one after that has ended.
fn an_admin_may_be_used_on_another_runtime(place: &Place) {
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("free");
    let (first, second, third) = (runtime(), runtime(), runtime());
    let admin = || async { Admin::open(place.config(TTL)).await.expect("connected") };
    let mut looks = soon(&first, admin());
    let mut observer = soon(&first, admin()).observe("a").expect("a name");
    assert_eq!(soon(&first, list(&mut looks)), 1);
    assert!(soon(&first, leads(&mut observer)));
    assert_eq!(soon(&second, list(&mut looks)), 1);
    guard.release().expect("released");
    assert!(!soon(&second, leads(&mut observer)));
    drop(second);
    assert_eq!(soon(&third, list(&mut looks)), 0);
    let _guard = locks.lock("a").expect("free");
    assert!(soon(&third, leads(&mut observer)));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_admin_of_postgres_may_be_used_on_another_runtime() {
    an_admin_may_be_used_on_another_runtime(&Place::postgres());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn an_admin_of_mysql_may_be_used_on_another_runtime() {
    an_admin_may_be_used_on_another_runtime(&Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn an_admin_of_mariadb_may_be_used_on_another_runtime() {
    an_admin_may_be_used_on_another_runtime(&Place::mariadb());
}

#[test]
#[ignore = "needs a Consul agent: tests/run starts one"]
fn an_admin_of_consul_may_be_used_on_another_runtime() {
    an_admin_may_be_used_on_another_runtime(&Place::consul());
}

#[test]
fn an_admin_of_a_file_may_be_used_on_another_runtime() {
    an_admin_may_be_used_on_another_runtime(&Place::sqlite());
}

/// The runtime's only thread for what blocks is taken. Certificates are read all the same.
fn connects_beside_work_that_blocks(url: &str) {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (ends, waits) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || waits.recv());
    let opened = runtime.block_on(async { timeout(SOON, Locks::connect(url)).await });
    let guard = opened.expect("not held up").expect("connected");
    soon(&runtime, async { guard.lock("a").await.expect("free").release().await.expect("freed") });
    drop((guard, ends));
}

#[test]
#[ignore = "needs servers: tests/run starts some"]
fn no_connect_waits_for_the_programs_other_work() {
    let checked = Place::postgres();
    let url = checked.whole_url();
    let authority = std::env::var("LOCK_TEST_POSTGRES_CA");
    let authority = authority.expect("tests/run makes an authority and sets it");
    let joined = if url.contains('?') { '&' } else { '?' };
    connects_beside_work_that_blocks(&format!(
        "{url}{joined}sslmode=verify-ca&sslrootcert={authority}"
    ));
    for place in [Place::postgres(), Place::mysql(), Place::mariadb(), Place::consul()] {
        connects_beside_work_that_blocks(&place.whole_url());
    }
}
