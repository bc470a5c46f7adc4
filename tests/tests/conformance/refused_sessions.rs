//! Servers on which advisory locks or Consul sessions would not be safe, or not possible, are refused
//! when the client connects, with a line that says what to do.

use lock_core::http::Method;
use lock_core::sql::Refusal;
use lock_sync::{Config, Error, Locks};
use lock_tests::consul::{Answer, Consul};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::servers::{Kind, Server};
use mysql::prelude::Queryable;
use std::time::Duration;

fn advisory(url: &str) -> Result<Locks, Error> {
    Locks::connect(&format!("{url}?protocol=advisory"))
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_standby_has_no_advisory_locks_to_give() {
    let server = Kind::Postgres.server();
    let config: Config =
        format!("{}?protocol=advisory&longest_ttl=1s", server.url()).parse().expect("good");
    let locks = Locks::open(config.ttl(Duration::from_secs(1))).expect("a primary");
    drop(locks.lock("a").expect("taken"));
    std::fs::write(server.folder().join("data/standby.signal"), "").expect("written");
    server.restart();
    assert_eq!(advisory(server.url()).map(drop), Err(Error::UnsafeServer(Refusal::Standby)));
    // To a client that was there before it may be the primary again.
    let told = locks.try_lock_for("a", Duration::from_secs(2)).map(drop);
    assert!(matches!(&told, Err(Error::Unavailable(why)) if why.contains("standby")), "{told:?}");
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_mysql_that_is_read_only_is_refused() {
    read_only(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_mariadb_that_is_read_only_is_refused() {
    read_only(Kind::Mariadb);
}

fn read_only(kind: Kind) {
    let server = kind.server();
    mysql_client(server.url()).query_drop("SET GLOBAL read_only = 1").expect("set");
    assert_eq!(advisory(server.url()).map(drop), Err(Error::UnsafeServer(Refusal::ReadOnly)));
    mysql_client(server.url()).query_drop("SET GLOBAL read_only = 0").expect("set");
    assert_eq!(advisory(server.url()).map(drop), Ok(()));
}

/// A Consul that lets nobody do anything without a token.
struct Guarded {
    server: Server,
    consul: Consul,
    manager: String,
}

impl Guarded {
    fn start() -> Self {
        let hcl = r#"session_ttl_min = "10s" acl { enabled = true default_policy = "deny" }"#;
        let server = Server::consul_with(hcl);
        let consul = Consul::at(server.url());
        let mut manager = None;
        let told = eventually(|| {
            let answer = consul.raw(Method::Put, "/v1/acl/bootstrap", "");
            manager = field(&answer, "SecretID");
            manager.is_some()
        });
        assert!(told, "its first token");
        Self { server, consul, manager: manager.expect("just seen") }
    }

    /// A token with these rights.
    fn token(&self, name: &str, rules: &str) -> String {
        let manager = &self.manager;
        let put = |path: &str, body: String| {
            let answer = self.consul.raw(Method::Put, &format!("{path}?token={manager}"), &body);
            assert_eq!(answer.status, 200, "{answer:?}");
            answer
        };
        let rules = rules.replace('"', "\\\"");
        put("/v1/acl/policy", format!(r#"{{"Name":"{name}","Rules":"{rules}"}}"#));
        let token = put("/v1/acl/token", format!(r#"{{"Policies":[{{"Name":"{name}"}}]}}"#));
        field(&token, "SecretID").expect("a token")
    }

    /// Changes the rights of the tokens that were made with this name.
    fn allow(&self, name: &str, rules: &str) {
        let manager = &self.manager;
        let path = format!("/v1/acl/policy/name/{name}?token={manager}");
        let id = field(&self.consul.raw(Method::Get, &path, ""), "ID").expect("a policy");
        let rules = rules.replace('"', "\\\"");
        let body = format!(r#"{{"ID":"{id}","Name":"{name}","Rules":"{rules}"}}"#);
        let path = format!("/v1/acl/policy/{id}?token={manager}");
        assert_eq!(self.consul.raw(Method::Put, &path, &body).status, 200);
    }

    fn connect(&self, parameters: &str) -> Result<Locks, Error> {
        let url = self.server.url().replacen("http://", "consul://", 1);
        Locks::connect(&format!("{url}/ops/locks?{parameters}"))
    }
}

fn field(answer: &Answer, name: &str) -> Option<String> {
    let rest = answer.body.split(&format!("\"{name}\":")).nth(1)?;
    rest.split('"').nth(1).map(str::to_string)
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_token_without_the_rights_is_refused_and_says_which_it_needs() {
    let guarded = Guarded::start();
    let session = r#"session_prefix "" { policy = "write" }"#;
    let keys = r#"key_prefix "ops/locks/" { policy = "write" }"#;
    let others = r#"key_prefix "ops/other/" { policy = "write" }"#;
    let reads = r#"key_prefix "ops/locks/" { policy = "read" }"#;
    for (name, rules) in [
        ("nothing", String::new()),
        ("session", session.to_string()),
        ("keys", keys.to_string()),
        ("others", format!("{session} {others}")),
        ("reads", format!("{session} {reads}")),
    ] {
        let token = guarded.token(name, &rules);
        let refused = guarded.connect(&format!("token={token}")).map(drop);
        let Err(Error::Refused(why)) = refused else { panic!("{name}: {refused:?}") };
        assert!(why.contains(keys) && why.contains(session), "{name}: {why}");
        assert!(!why.contains(&token), "{name}: {why}");
    }
    for parameters in ["", "token=11111111-2222-3333-4444-555555555555"] {
        let refused = guarded.connect(parameters).map(drop);
        let Err(Error::Refused(why)) = refused else { panic!("{parameters}: {refused:?}") };
        assert!(why.contains(keys) && !why.contains("2222"), "{parameters}: {why}");
    }
    // One whose rights come and go.
    let rules = format!("{session} {keys}");
    let token = guarded.token("flaps", &rules);
    let locks = guarded.connect(&format!("token={token}")).expect("it has rights");
    guarded.allow("flaps", "");
    let told = locks.try_lock_for("b", Duration::from_secs(2)).map(drop);
    assert!(matches!(&told, Err(Error::Unavailable(why)) if why.contains(keys)), "{told:?}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| locks.lock("b").map(drop));
        guarded.allow("flaps", &rules);
        assert_eq!(waits.join().expect("no panic"), Ok(()));
    });
    let token = guarded.token("enough", &format!("{session} {keys}"));
    let locks = guarded.connect(&format!("token={token}")).expect("what it says is enough");
    let guard = locks.lock("a").expect("taken");
    let others = guarded.connect(&format!("token={token}")).expect("again");
    let waited = others.try_lock_for("a", Duration::from_millis(300)).expect("it may watch");
    assert!(waited.is_none());
    guard.release().expect("released");
    assert!(!format!("{locks:?}").contains(&token));
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_ttl_that_consul_does_not_take_is_refused() {
    let server = Server::consul_with(r#"session_ttl_min = "10s""#);
    let place = Place::consul_at(server.url());
    let refused = Locks::open(place.config(Duration::from_secs(9))).map(drop);
    let Err(Error::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("TTL") && why.contains("10s"), "{why}");
    assert_eq!(Locks::open(place.config(Duration::from_secs(10))).map(drop), Ok(()));
    assert_eq!(Locks::open(place.config(Duration::from_secs(24 * 60 * 60))).map(drop), Ok(()));
}
