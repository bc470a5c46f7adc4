//! An `Admin` of the async driver on more than one runtime, as tests share one that have a runtime each.

use lock_async::{Admin, Observer};
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
