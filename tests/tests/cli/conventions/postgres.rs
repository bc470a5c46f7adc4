//! libpq's variables, its file of passwords, and its hosts.

use super::{is_refused, leads_to, run};
use lock_tests::place::{Place, client, postgres_url};
use lock_tests::proxy::server_of;
use lock_tests::servers::Server;
use lock_tests::withlock::Sandbox;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The port of the server that the environment names.
fn port() -> String {
    let server = server_of(&postgres_url());
    server.split_once(':').expect("a port").1.to_string()
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
}

fn tail() -> String {
    format!("?table={}", Place::postgres().table())
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn variables_complete_the_url() {
    let (sandbox, port, tail) = (Sandbox::new(), port(), tail());
    let server = [("PGHOST", "127.0.0.1"), ("PGPORT", &*port)];
    let login = [("PGUSER", "app"), ("PGPASSWORD", "secret"), ("PGDATABASE", "test")];
    let all = [&server[..], &login].concat();
    let place = format!("postgres://app@127.0.0.1:{port}/test?table=");
    leads_to(&sandbox, &format!("postgres://{tail}"), &all, &place);
    leads_to(&sandbox, &format!("postgres://app:secret@/test{tail}"), &server, &place);
    // The URL goes first.
    let other =
        [("PGHOST", "192.0.2.1"), ("PGPORT", "1"), ("PGUSER", "none"), ("PGPASSWORD", "no")];
    let whole = format!("postgres://app:secret@127.0.0.1:{port}/test{tail}");
    leads_to(&sandbox, &whole, &other, &place);
    // Neither names a user.
    let user = std::process::Command::new("id").arg("-un").output().expect("id").stdout;
    let user = String::from_utf8(user).expect("a name").trim().to_string();
    let ended = run(&sandbox, &format!("postgres:///test{tail}"), &server);
    let says = format!("role \"{user}\" does not exist");
    assert!(ended.code == 125 && ended.stderr.contains(&says), "{ended:?}");
    is_refused(&sandbox, "postgres://", &[("PGPORT", "hunter2")], "PGPORT");
    is_refused(&sandbox, "postgres://", &[("PGSSLMODE", "hunter2")], "PGSSLMODE");
    // A withlock inside is completed in the same way, and never leads to another place.
    let nested = |inside: &str| {
        let args = ["a", "--", "sh", "-c", inside];
        let mut command = sandbox.withlock(&format!("postgres://{tail}"), &args);
        sandbox.start(command.envs(all.iter().copied())).end()
    };
    nested("\"$W\" -n inner -- true").expect(0);
    let elsewhere = nested("PGHOST=localhost \"$W\" -n inner -- true").expect(125);
    assert!(elsewhere.stderr.contains("such as PGHOST"), "{elsewhere:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn several_hosts_are_tried_in_their_order() {
    let (sandbox, port) = (Sandbox::new(), port());
    let tail = tail().replace('?', "&");
    let two = format!("postgres://app:secret@/test?host=127.0.0.1,localhost&port=1,{port}{tail}");
    leads_to(&sandbox, &two, &[], &format!("postgres://app@127.0.0.1:1,localhost:{port}/test"));
    let ports = format!("1,{port}");
    let variables = [("PGHOST", "127.0.0.1,localhost"), ("PGPORT", &*ports)];
    let url = format!("postgres://app:secret@/test?{}", &tail[1..]);
    leads_to(&sandbox, &url, &variables, &format!("127.0.0.1:1,localhost:{port}/test"));
    let mut standby = variables.to_vec();
    standby.push(("PGTARGETSESSIONATTRS", "read-only"));
    let ended = run(&sandbox, &url, &standby);
    assert_eq!(ended.code, 125, "the server is a primary: {ended:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_unix_socket_is_a_host() {
    let (sandbox, port, tail) = (Sandbox::new(), port(), tail());
    let folder: String =
        client(&postgres_url()).query_one("SHOW data_directory", &[]).expect("told").get(0);
    let folder = Path::new(&folder).parent().expect("a folder").display().to_string();
    let variables = [("PGHOST", &*folder), ("PGPORT", &*port), ("PGUSER", "app")];
    let shown = folder.replace('/', "%2F");
    let place = format!("postgres://app@{shown}:{port}/test");
    leads_to(&sandbox, &format!("postgres:///test{tail}"), &variables, &place);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn passwords_come_from_a_file_that_nobody_else_may_read() {
    let (sandbox, port, tail) = (Sandbox::new(), port(), tail());
    let url = format!("postgres://app@127.0.0.1:{port}/test{tail}");
    let place = format!("postgres://app@127.0.0.1:{port}/test");
    let lines = format!(
        "# 127.0.0.1:{port}:test:app:no\n127.0.0.1:1:*:*:no\n127.0.0.1:{port}:test:app:secret\n*:*:*:*:no\n"
    );
    let file = sandbox.path("home/.pgpass");
    write(&file, &lines, 0o600);
    leads_to(&sandbox, &url, &[], &place);
    is_refused(&sandbox, &url, &[("PGPASSWORD", "hunter2")], "password authentication failed");
    // A missing one is final, also for a wait that has no end.
    let mut waits = sandbox.withlock(&url, &["a", "--", "true"]);
    let ended = sandbox.start(waits.env("HOME", "/nonexistent")).end().expect(125);
    assert!(ended.stderr.contains("asks for a password"), "{ended:?}");
    for mode in [0o640, 0o604] {
        write(&file, &lines, mode);
        let ended = run(&sandbox, &url, &[]).expect(125);
        let told: Vec<_> = ended.stderr.lines().collect();
        assert!(told.len() == 2 && told[0].contains("chmod 600"), "{ended:?}");
        let mut quiet = sandbox.withlock(&url, &["-n", "-q", "a", "--", "true"]);
        let ended = sandbox.start(&mut quiet).end().expect(125);
        assert!(!ended.stderr.contains("chmod"), "{ended:?}");
    }
    let other = sandbox.path("other");
    let path = other.display().to_string();
    write(&other, "*:*:*:app:\\secret\n", 0o400);
    leads_to(&sandbox, &url, &[("PGPASSFILE", &path)], &place);
    write(&file, "*:*:*:*:no\n", 0o600);
    leads_to(&sandbox, &format!("{url}&passfile={path}"), &[], &place);
    let ended = run(&sandbox, &url, &[("PGPASSFILE", "/nonexistent")]).expect(125);
    assert!(ended.stderr.contains("/nonexistent"), "{ended:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn tls_is_as_variables_and_the_systems_authorities_say() {
    let (sandbox, port, tail) = (Sandbox::new(), port(), tail());
    let authority = std::env::var("LOCK_TEST_POSTGRES_CA")
        .expect("LOCK_TEST_POSTGRES_CA: tests/run makes an authority and sets it");
    let url = format!("postgres://app:secret@localhost:{port}/test{tail}");
    let place = format!("localhost:{port}/test");
    let full = ("PGSSLMODE", "verify-full");
    leads_to(&sandbox, &url, &[full, ("PGSSLROOTCERT", &authority)], &place);
    is_refused(&sandbox, &url, &[full, ("PGSSLROOTCERT", "/none.pem")], "/none.pem");
    // No public authority has signed its certificate.
    is_refused(&sandbox, &url, &[("PGSSLROOTCERT", "system")], "TLS");
    is_refused(&sandbox, &format!("{url}&sslrootcert=system"), &[], "TLS");
    let weak = format!("{url}&sslrootcert=system&sslmode=require");
    is_refused(&sandbox, &weak, &[], "verify-full");
    leads_to(&sandbox, &format!("{url}&sslmode=disable"), &[full], &place);
}

#[test]
#[ignore = "needs a PostgreSQL server of its own: tests/servers"]
fn allow_encrypts_only_if_the_server_demands_it() {
    let server = Server::postgres();
    let rules = server.folder().join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).expect("there");
    let demands = "hostnossl all app all reject\nhostssl all app all scram-sha-256\n";
    std::fs::write(&rules, format!("{demands}{others}")).expect("written");
    client(server.url()).batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    let (sandbox, at) = (Sandbox::new(), server_of(server.url()));
    let url = |mode: &str| format!("postgres://app:secret@{at}/test?sslmode={mode}");
    lock_tests::withlock::eventually("the server has read its rules", || {
        run(&sandbox, &url("disable"), &[]).code == 125
    });
    is_refused(&sandbox, &url("disable"), &[], "no encryption");
    leads_to(&sandbox, &url("allow"), &[], "postgres://app@");
    lock_tests::drivers::wait(async {
        let locks = lock_async::Locks::connect(&url("allow")).await.expect("connected");
        locks.lock("a").await.expect("locked").release().await.expect("released");
    });
    let wrong = url("allow").replace("secret", "hunter2");
    is_refused(&sandbox, &wrong, &[], "password authentication failed");
}
