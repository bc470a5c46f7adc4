//! URLs are completed as the servers' own clients do: from their environment variables and files.

mod consul;
mod mysql;
mod postgres;

use lock_tests::withlock::{Ended, Sandbox};

/// Runs `withlock -n -v` with locks at `url` under these variables.
fn run(sandbox: &Sandbox, url: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = sandbox.withlock(url, &["-n", "-v", "a", "--", "true"]);
    sandbox.start(command.envs(variables.iter().copied())).end()
}

/// Runs it, and expects that it names this place, and nothing that is secret.
#[track_caller]
fn leads_to(sandbox: &Sandbox, url: &str, variables: &[(&str, &str)], place: &str) {
    let ended = run(sandbox, url, variables).expect(0);
    assert!(ended.stderr.contains(place), "{url} under {variables:?}: {ended:?}");
    shows_no_secret(&ended);
}

/// Runs it, and expects that it refuses in one line.
#[track_caller]
fn is_refused(sandbox: &Sandbox, url: &str, variables: &[(&str, &str)], says: &str) {
    let ended = run(sandbox, url, variables).expect(125);
    assert!(ended.stderr.contains(says), "{url} under {variables:?}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    shows_no_secret(&ended);
}

fn shows_no_secret(ended: &Ended) {
    for secret in ["secret", "hunter2"] {
        assert!(!ended.stderr.contains(secret), "{ended:?}");
    }
}

#[test]
fn variables_alone_name_no_place() {
    let sandbox = Sandbox::new();
    let variables =
        [("PGHOST", "127.0.0.1"), ("MYSQL_HOST", "127.0.0.1"), ("CONSUL_HTTP_ADDR", "127.0.0.1:1")];
    leads_to(&sandbox, "", &variables, "sqlite:");
}
