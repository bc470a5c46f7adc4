//! Sessions that a server, a role or other code has changed before their first command: settings, schemas, rights, open transactions.

use lock_sync::{Config, Error, Protocol, TableName};
use lock_tests::drivers::{Admin, Driven, Driver, Locks, wait};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::servers::Kind;
use lock_tests::withlock::Sandbox;
use mysql::prelude::Queryable;
use sqlx::Executor;
use sqlx::mysql::MySqlPoolOptions;
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];
const TTL: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(3);

on_mysql_and_mariadb! {
    what_init_connect_begins_is_ended
    a_limit_of_the_server_for_results_takes_no_lease
    a_time_of_the_session_is_not_that_of_its_leases
    a_session_whose_leases_could_not_be_kept_is_refused
    a_connection_inside_a_transaction_is_not_taken_over
    what_an_account_may_not_do_is_told_with_the_grant
    a_table_stays_in_the_database_where_it_was_found
}

/// The same server for another user.
fn url_of(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (_, place) = rest.split_once('@').expect("a user");
    format!("{scheme}://{user}@{place}")
}

/// `init_connect` is not run for a superuser.
fn what_init_connect_begins_is_ended(kind: Kind) {
    let server = kind.server();
    let mut root = mysql_client(server.url());
    let app = url_of(server.url(), "app:secret");
    // Before it grants its own locks, the server must have run for as long as a lease lasts.
    Place::advisory_at(&app)
        .locks(SHORT)
        .lock("first")
        .expect("taken")
        .release()
        .expect("released");
    for begins in [
        "START TRANSACTION",
        "SET autocommit = 0",
        "SET autocommit = 0, completion_type = 1; START TRANSACTION",
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET sql_select_limit = 1, group_concat_max_len = 8",
        "SET sql_select_limit = 0, max_join_size = 1",
        "SET NAMES latin1",
    ] {
        root.query_drop(format!("SET GLOBAL init_connect = '{begins}'")).expect("set");
        for driver in DRIVERS {
            let place = Driven::new(driver, Place::at(&app));
            let locks = place.locks(SHORT);
            let held = format!("SELECT COUNT(*) FROM {} WHERE owner IS NOT NULL", place.table());
            let mut held = || -> Option<u64> { root.query_first(&held).expect("asked") };
            let guards = ["a", "b"].map(|name| locks.lock(name).expect("taken"));
            assert_eq!(held(), Some(2), "{begins}: it is committed");
            let other = place.locks(SHORT);
            assert!(other.try_lock("a").expect("asked").is_none(), "{begins}");
            for guard in guards {
                guard.release().expect("released");
            }
            assert_eq!(held(), Some(0), "{begins}");
            let own = Driven::new(driver, Place::advisory_at(&app)).locks(SHORT);
            own.lock("a").expect("taken").release().expect("released");
            assert!(other.try_lock("a").expect("asked").is_some(), "{begins}");
        }
    }
}

/// It is the default of sessions.
fn a_limit_of_the_server_for_results_takes_no_lease(kind: Kind) {
    let server = kind.server();
    mysql_client(server.url()).query_drop("SET GLOBAL sql_select_limit = 1").expect("set");
    for driver in DRIVERS {
        let locks = Driven::new(driver, Place::at(server.url())).locks(SHORT);
        let guards = ["a", "b"].map(|name| locks.lock(name).expect("taken"));
        // They are renewed together, several times.
        std::thread::sleep(SHORT);
        for guard in guards {
            assert_eq!(guard.lost_reason(), None);
            guard.release().expect("released");
        }
    }
}

/// `SET timestamp` stops a session's clock, and a lease would end by it.
fn a_time_of_the_session_is_not_that_of_its_leases(kind: Kind) {
    for time in [1_000_000_000, 2_100_000_000] {
        let place = kind.place();
        let others = place.locks(TTL);
        let theirs = others.lock("theirs").expect("free");
        let mut handed = handed(&place, &format!("SET timestamp = {time}"));
        handed.retain(|(who, _)| who.ends_with("advisory: false"));
        assert_eq!(handed.len(), DRIVERS.len());
        for (who, locks) in handed {
            let locks = locks.expect("connected");
            assert!(locks.try_lock("theirs").expect("asked").is_none(), "{who}, {time}");
            let ours = locks.lock(&who).expect("free");
            assert!(others.try_lock(&who).expect("asked").is_none(), "{who}, {time}");
            ours.release().expect("released");
        }
        theirs.release().expect("released");
    }
}

/// The settings are the pool's, and are not changed.
fn a_session_whose_leases_could_not_be_kept_is_refused(kind: Kind) {
    let place = kind.place();
    let safe = "SET sql_safe_updates = 1";
    for (set, says) in [
        ("SET timestamp = 1000000000", "SET timestamp"),
        ("SET timestamp = 2100000000", "SET timestamp"),
        ("SET SESSION TRANSACTION READ ONLY", "read-only"),
        (safe, "sql_safe_updates"),
    ] {
        let config = Config::new().table(TableName::new(place.table()).expect("good"));
        let connected = wait(async {
            let options = MySqlPoolOptions::new().max_connections(1);
            let pool = options.connect(place.url()).await.expect("connected");
            pool.execute(set).await.expect("set");
            lock_async::Locks::with_sqlx(pool, config).await.map(drop)
        });
        // MySQL finds the rows by their key all the same.
        if set == safe && kind == Kind::Mysql {
            connected.expect("connected");
            continue;
        }
        let error = connected.expect_err(set);
        assert!(error.to_string().contains(says) && !error.is_transient(), "{set}: {error}");
    }
}

/// The result of connecting over a connection that `begin` was run on, for each driver and protocol.
fn handed(place: &Place, begin: &str) -> Vec<(String, Result<Locks, Error>)> {
    let url = place.url().replacen("mariadb://", "mysql://", 1);
    let mut all = Vec::new();
    for advisory in [false, true] {
        let of = |locks: Result<Locks, Error>, who: &str| {
            (format!("{who}, advisory: {advisory}"), locks)
        };
        let config = || match advisory {
            true => Config::new().protocol(Protocol::Advisory),
            false => Config::new().table(TableName::new(place.table()).expect("good")),
        };
        let blocking = if url.starts_with("postgres") {
            let mut own = client(&url);
            own.batch_execute(begin).expect("begun");
            lock_sync::Locks::with_postgres(own, config())
        } else {
            let mut own = mysql_client(&url);
            own.query_drop(begin).expect("begun");
            lock_sync::Locks::with_mysql(own, config())
        };
        all.push(of(blocking.map(Locks::Blocking), "lock-sync"));
        let tokio = wait(async {
            if url.starts_with("postgres") {
                let (own, connection) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connected");
                tokio::spawn(connection);
                own.batch_execute(begin).await.expect("begun");
                lock_async::Locks::with_postgres(own, config()).await
            } else {
                use mysql_async::prelude::Queryable as _;
                let mut own = mysql_async::Conn::from_url(&url).await.expect("connected");
                own.query_drop(begin).await.expect("begun");
                lock_async::Locks::with_mysql(own, config()).await
            }
        });
        all.push(of(tokio.map(Locks::Tokio), "lock-async"));
    }
    all
}

/// The same over connections that a function makes.
fn made(place: &Place, begin: &str) -> [(String, Error); 2] {
    let (url, begin) = (place.url().replacen("mariadb://", "mysql://", 1), begin.to_string());
    let (other_url, other_begin) = (url.clone(), begin.clone());
    let config = || Config::new().table(TableName::new(place.table()).expect("good"));
    let (blocking, tokio) = if url.starts_with("postgres") {
        let make = move || {
            let mut own = client(&other_url);
            own.batch_execute(&other_begin).map(|()| Box::new(own))
        };
        let blocking = lock_sync::Locks::from_postgres(make, config()).map(drop);
        let make = move || {
            let (url, begin) = (url.clone(), begin.clone());
            async move {
                let (own, connection) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                own.batch_execute(&begin).await.map(|()| Box::new(own))
            }
        };
        (blocking, wait(lock_async::Locks::from_postgres(make, config())).map(drop))
    } else {
        use mysql_async::prelude::Queryable as _;
        let make = move || {
            let mut own = mysql_client(&other_url);
            own.query_drop(&other_begin).map(|()| own)
        };
        let blocking = lock_sync::Locks::from_mysql(make, config()).map(drop);
        let make = move || {
            let (url, begin) = (url.clone(), begin.clone());
            async move {
                let mut own = mysql_async::Conn::from_url(url).await?;
                own.query_drop(begin).await.map(|()| own)
            }
        };
        (blocking, wait(lock_async::Locks::from_mysql(make, config())).map(drop))
    };
    [("lock-sync", blocking), ("lock-async", tokio)]
        .map(|(who, result)| (format!("{who}, a function"), result.expect_err(who)))
}

fn is_refused_inside(place: &Place, begin: &str) {
    let refused = |(who, locks): (String, Result<Locks, Error>)| {
        let error = locks.map(drop).expect_err(&who);
        (who, error)
    };
    let handed = handed(place, begin).into_iter().map(refused);
    for (who, error) in handed.chain(made(place, begin)) {
        let told = error.to_string();
        assert!(told.contains("inside a transaction"), "{who}: {told}");
        assert!(!error.is_transient(), "{who}");
    }
}

fn a_connection_inside_a_transaction_is_not_taken_over(kind: Kind) {
    let place = kind.place();
    place.tamper("CREATE TABLE {table}_yours (n INT)");
    is_refused_inside(&place, "START TRANSACTION");
    // Nothing of yours was committed by us.
    let begin = format!("INSERT INTO {}_yours VALUES (1)", place.table());
    let mut own = mysql_client(place.url());
    own.query_drop("SET autocommit = 0").expect("set");
    own.query_drop(&begin).expect("begun");
    let config = Config::new().table(TableName::new(place.table()).expect("good"));
    let refused = lock_sync::Locks::with_mysql(own, config);
    assert!(refused.is_err());
    let count = format!("SELECT COUNT(*) FROM {}_yours", place.table());
    let count: Option<u64> = mysql_client(place.url()).query_first(count).expect("asked");
    assert_eq!(count, Some(0));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_connection_inside_a_transaction_is_not_taken_over_on_postgres() {
    is_refused_inside(&Place::postgres(), "BEGIN");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_role_that_only_reads_is_refused_when_connecting() {
    let place = Place::postgres();
    let role = format!("{}_reader", place.table());
    place.tamper(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET default_transaction_read_only = on"
    ));
    drop(place.locks(TTL));
    let through = place.through(&url_of(place.url(), &role));
    for driver in DRIVERS {
        let refused = Driven::new(driver, place.through(through.url())).try_labelled(TTL, "");
        let error = refused.map(drop).expect_err("refused");
        assert!(error.to_string().contains("default_transaction_read_only"), "{error}");
        assert!(!error.is_transient());
    }
}

/// Two roles, each with a schema of its own first in its `search_path`, and their places.
fn roles(place: &Place) -> [Place; 2] {
    ["one", "two"].map(|name| {
        let own = format!("{}_{name}", place.table());
        place.tamper(&format!(
            "CREATE SCHEMA {own}; CREATE ROLE {own} LOGIN SUPERUSER; ALTER ROLE {own} SET search_path = {own}, public"
        ));
        place.through(&url_of(place.url(), &own))
    })
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_schema_that_a_roles_table_is_in_can_be_seen() {
    for driver in DRIVERS {
        let place = Place::postgres();
        let [one, two] = roles(&place);
        let places = [(&one, "one"), (&two, "two")];
        for (role, own) in places {
            let locks = Driven::new(driver, role.through(role.url())).locks(TTL);
            let table = locks.table().expect("there is one");
            assert_eq!(table, format!("{0}_{own}.{0}", place.table()));
            let shown = Sandbox::new().run(&role.whole_url(), &["-v", "a", "--", "true"]);
            assert!(shown.stderr.contains(&format!("table {table}")), "{}", shown.stderr);
        }
        // Where it is in neither's own schema, it is one table.
        for role in [&one, &two] {
            role.tamper("DROP TABLE {table}");
        }
        drop(place.locks(TTL));
        let [one, two] = [one, two].map(|role| Driven::new(driver, role).locks(TTL));
        assert_eq!(
            [one.table(), two.table()],
            [(); 2].map(|()| Some(format!("public.{}", place.table())))
        );
        let guard = one.lock("a").expect("taken");
        assert!(two.try_lock("a").expect("asked").is_none());
        guard.release().expect("released");
    }
}

/// Another table of that name comes to be in front of it, and the connection is made anew.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_table_stays_in_the_schema_where_it_was_found() {
    for driver in DRIVERS {
        let place = Place::postgres();
        drop(place.locks(TTL));
        let [role, _] = roles(&place);
        let locks = Driven::new(driver, role.through(role.url())).locks(SHORT);
        let guard = locks.lock("a").expect("taken");
        role.tamper(&format!(
            "CREATE TABLE {0}_one.{0} (LIKE public.{0} INCLUDING ALL)",
            place.table()
        ));
        place.tamper(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}_one'",
            place.table()
        ));
        let expiry =
            format!("SELECT expires_at::text FROM public.{} WHERE name = 'a'", place.table());
        let mut watch = client(place.url());
        let mut at = || -> String { watch.query_one(&expiry, &[]).expect("a row").get(0) };
        let first = at();
        assert!(eventually(|| at() != first), "it is renewed there");
        assert!(guard.is_held());
        assert!(place.locks(TTL).try_lock("a").expect("asked").is_none());
        guard.release().expect("released");
        assert!(place.locks(TTL).try_lock("a").expect("asked").is_some());
    }
}

/// New connections are in another database from some time on.
fn a_table_stays_in_the_database_where_it_was_found(kind: Kind) {
    let server = kind.server();
    let mut root = mysql_client(server.url());
    root.query_drop("CREATE DATABASE other").expect("made");
    root.query_drop("GRANT ALL ON other.* TO app").expect("granted");
    let app = url_of(server.url(), "app:secret");
    for driver in DRIVERS {
        root.query_drop("SET GLOBAL init_connect = ''").expect("set");
        let place = Driven::new(driver, Place::at(&app));
        let locks = place.locks(SHORT);
        assert_eq!(locks.table(), Some(format!("test.{}", place.table())));
        let guard = locks.lock("a").expect("taken");
        root.query_drop("SET GLOBAL init_connect = 'USE other'").expect("set");
        let theirs = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
        let theirs: Vec<u64> = root.query(theirs).expect("asked");
        for id in theirs {
            let _ = root.query_drop(format!("KILL {id}"));
        }
        let expiry = format!("SELECT expires_us FROM test.{} WHERE name = 'a'", place.table());
        let mut at = || -> Option<i64> { root.query_first(&expiry).expect("asked") };
        let first = at();
        assert!(eventually(|| at() != first), "it is renewed there");
        assert!(guard.is_held());
        guard.release().expect("released");
    }
}

/// The statement that an error advises. A user with that right runs it, and then nothing is missing.
fn advised(told: &str) -> String {
    let at = told.find("GRANT ").unwrap_or_else(|| panic!("no GRANT: {told}"));
    let advice = &told[at..];
    advice.split(", or have it").next().unwrap_or_default().to_string()
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn what_a_role_may_not_do_is_told_with_the_grant() {
    for driver in DRIVERS {
        let place = Place::postgres();
        let role = format!("{}_role", place.table());
        let schema = format!("{}_schema", place.table());
        place.tamper(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA {schema}"));
        let url = format!("{}?table={schema}.locks", url_of(place.url(), &role));
        let connect = || lock_tests::drivers::connect(driver, &url);
        // Not even to look into the schema; then not to create the table; then there is one of somebody else's.
        let refused = connect().map(drop).expect_err("refused").to_string();
        place.tamper(advised(&refused).split_once("; ").expect("two").0);
        let refused = connect().map(drop).expect_err("refused").to_string();
        assert!(advised(&refused).contains("CREATE ON SCHEMA"), "{refused}");
        let ddl = "CREATE TABLE".to_string() + refused.split_once("CREATE TABLE").expect("a DDL").1;
        place.tamper(&ddl);
        let locks = connect().expect("connected");
        let refused = locks.try_lock("a").map(drop).expect_err("refused");
        assert!(!refused.is_transient(), "{refused}");
        place.tamper(&advised(&refused.to_string()));
        locks.lock("a").expect("taken").release().expect("released");
        let mut admin = Admin::connect(driver, &url, TTL);
        let refused = admin.purge(Duration::from_secs(3_600)).expect_err("refused").to_string();
        place.tamper(&advised(&refused));
        admin.purge(Duration::from_secs(3_600)).expect("purged");
    }
}

fn what_an_account_may_not_do_is_told_with_the_grant(kind: Kind) {
    for driver in DRIVERS {
        let place = kind.place();
        let user = place.table().replacen("locks_", "u_", 1);
        place.tamper("CREATE TABLE {table}_other (n INT)");
        place.tamper(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'"));
        place.tamper(&format!("GRANT SELECT ON {{table}}_other TO '{user}'@'%'"));
        let through = place.through(&url_of(place.url(), &format!("{user}:secret")));
        let connect = || Driven::new(driver, place.through(through.url())).try_labelled(TTL, "");
        let refused = connect().map(drop).expect_err("refused").to_string();
        place.tamper(&advised(&refused));
        let locks = connect().expect("connected");
        locks.lock("a").expect("taken").release().expect("released");
        place.tamper(&format!("REVOKE INSERT, UPDATE ON {{table}} FROM '{user}'@'%'"));
        let locks = connect().expect("connected");
        let refused = locks.try_lock("a").map(drop).expect_err("refused").to_string();
        place.tamper(&advised(&refused));
        locks.lock("a").expect("taken").release().expect("released");
    }
}
