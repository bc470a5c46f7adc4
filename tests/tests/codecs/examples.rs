//! The examples start with one command, and print what they say.

use lock_tests::withlock::cargo;

fn run(package: &str, example: &str, args: &[&str]) -> String {
    let output = cargo()
        .args(["run", "--quiet", "--locked", "-p", package, "--example", example, "--"])
        .args(args)
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

#[test]
fn each_migration_runs_once() {
    let told = run("lock-sync", "migrate", &[]);
    assert_eq!(told, "migrations applied by each instance: [0, 0, 3]\n");
}

#[test]
fn each_report_is_sent_once_and_the_lead_is_handed_on() {
    let expected: String = (0..6).map(|day| format!("day {day}: sent\n")).collect();
    assert_eq!(run("lock-sync", "leader", &[]), expected + "reports sent: 6\n");
}

#[test]
fn a_service_stops_when_its_lock_is_lost() {
    let told = run("lock-async", "service", &[]);
    let lost =
        "turn 1: it is ours\nturn 1: stopped: the server says that the lease is no longer ours\n";
    assert_eq!(told, format!("{lost}turn 2: it is ours\nturn 2: the work is done\n"));
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_driver_of_ones_own_takes_a_lock_in_consul() {
    let url = std::env::var("CONSUL_URL").expect("tests/run starts a server and sets it");
    let server = url.trim_start_matches("http://").trim_end_matches('/');
    assert_eq!(run("lock-core", "consul", &[server]), "granted: true\nreleased\n");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_driver_for_another_client_library_takes_a_lock_in_postgres() {
    let url = std::env::var("POSTGRES_URL").expect("tests/run starts a server and sets it");
    assert_eq!(run("lock-async", "sqlx", &[&url]), "granted: true\nreleased\n");
}
