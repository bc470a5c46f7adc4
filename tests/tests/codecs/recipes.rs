//! The recipes in `docs/recipes.md` do what the page says. Cron, systemd, a CI server and a container runtime are not
//! here: their lines are run as those would run them.

use crate::docs::page;
use lock_tests::transcript::{blocks, run_in};
use lock_tests::withlock::{Ended, Run, Sandbox, binary, eventually, is_alive, pid};
use rustix::process::Signal;
use std::fs::{Permissions, create_dir_all, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// The blocks of one language, of which the page has so many.
fn recipes<const COUNT: usize>(language: &str) -> [String; COUNT] {
    blocks(&page("docs/recipes.md"), language).try_into().expect(language)
}

/// What follows `key` in its line.
fn value<'a>(block: &'a str, key: &str) -> &'a str {
    block.lines().find_map(|line| line.trim().strip_prefix(key)).expect(key)
}

/// A sandbox with `withlock` and this program in its folder `bin`, which stands for `/usr/local/bin`.
fn sandbox(name: &str, script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    create_dir_all(sandbox.path("bin")).expect("made");
    symlink(binary(), sandbox.path("bin/withlock")).expect("linked");
    program(&sandbox, name, script);
    sandbox
}

fn program(sandbox: &Sandbox, name: &str, script: &str) {
    write(sandbox.path(name), format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(sandbox.path(name), Permissions::from_mode(0o755)).expect("set");
}

/// Notes that it runs and waits to be let go.
const WORK: &str = "echo $$ >>ran; until [ -e go ]; do sleep 0.05; done";

fn here(sandbox: &Sandbox, text: &str) -> String {
    text.replace("/usr/local/bin", &sandbox.path("bin").display().to_string())
}

/// A line of a crontab, as cron runs it: by a shell, in the home, without most variables.
fn by_cron(sandbox: &Sandbox, path: &str, line: &str) -> Run {
    let command = line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).env_clear().env("PATH", path);
    shell.env("HOME", sandbox.path("")).current_dir(sandbox.path(""));
    sandbox.start(&mut shell)
}

#[test]
fn of_two_runs_of_a_line_of_the_crontab_one_works() {
    let [crontab] = recipes("crontab");
    let lines: Vec<_> = crontab.lines().filter(|line| line.starts_with(['*', '0'])).collect();
    assert_eq!(lines.len(), 2);
    for (line, script) in lines.into_iter().zip(["sync.sh", "nightly.sh"]) {
        let sandbox = sandbox(script, WORK);
        create_dir_all(sandbox.path(".config/withlock")).expect("made");
        write(sandbox.path(".config/withlock/url"), sandbox.url()).expect("written");
        let path = here(&sandbox, value(&crontab, "PATH="));
        let mut first = by_cron(&sandbox, &path, line);
        eventually("it works", || sandbox.path("ran").exists());
        let second = by_cron(&sandbox, &path, line).end().expect(0);
        assert_eq!([second.stdout, second.stderr], ["", ""]);
        write(sandbox.path("go"), "").expect("written");
        if line.contains("--min-hold") {
            // The work is done, and the lock is kept for a minute.
            let work = pid(&sandbox.read("ran"));
            eventually("the work is done", || !is_alive(work));
            eventually("nobody waits for the minute", || first.has_ended());
            by_cron(&sandbox, &path, line).end().expect(0);
        }
        first.end().expect(0);
        assert_eq!(sandbox.read("ran").lines().count(), 1, "{line}");
        assert!(sandbox.path("locks.db").exists(), "the URL in the file counts");
    }
}

/// A unit's command, as systemd starts it, with its credential.
fn by_systemd(sandbox: &Sandbox, unit: &str) -> Run {
    let (credential, file) = value(unit, "LoadCredential=").split_once(':').expect("a file");
    assert!(file.starts_with("/etc/"));
    create_dir_all(sandbox.path("credentials")).expect("made");
    write(sandbox.path("credentials").join(credential), sandbox.url() + "\n").expect("written");
    let line = here(sandbox, value(unit, "ExecStart="));
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("CREDENTIALS_DIRECTORY", sandbox.path("credentials"));
    sandbox.start(command.current_dir(sandbox.path("")))
}

#[test]
fn a_unit_finds_its_credential_and_takes_turns() {
    let [nightly, _] = recipes("ini");
    let sandbox = sandbox("bin/nightly", WORK);
    let first = by_systemd(&sandbox, &nightly);
    eventually("it works", || sandbox.path("ran").exists());
    by_systemd(&sandbox, &nightly).end().expect(0);
    // As KillMode=mixed does.
    first.signal(Signal::TERM);
    first.end().expect(143);
    assert_eq!(sandbox.read("ran").lines().count(), 1);
    assert!(sandbox.path("locks.db").exists(), "the URL in the credential counts");
}

#[test]
fn a_unit_that_waits_takes_over() {
    let [_, scheduler] = recipes("ini");
    let sandbox = sandbox("bin/scheduler", WORK);
    let count = || sandbox.read("ran").lines().count();
    let active = by_systemd(&sandbox, &scheduler);
    eventually("one is active", || count() == 1);
    let waiting = by_systemd(&sandbox, &scheduler);
    active.signal(Signal::TERM);
    active.end().expect(143);
    eventually("the other one is active", || count() == 2);
    write(sandbox.path("go"), "").expect("written");
    waiting.end().expect(0);
}

#[test]
fn a_job_of_a_pipeline_waits_for_the_other_one() {
    let [pipeline] = recipes("yaml");
    let sandbox = sandbox("deploy.sh", WORK);
    let job = || {
        let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
        let mut shell = sandbox.command("bash");
        shell.args(["-e", "-c", value(&pipeline, "- run: ")]);
        sandbox.start(shell.env("PATH", path).env("WITHLOCK_URL", sandbox.url()))
    };
    assert!(value(&pipeline, "WITHLOCK_URL: ").contains("secrets."));
    let first = job();
    eventually("the first one works", || sandbox.path("ran").exists());
    let second = job();
    write(sandbox.path("go"), "").expect("written");
    first.end().expect(0);
    second.end().expect(0);
    assert_eq!(sandbox.read("ran").lines().count(), 2);
}

#[test]
fn a_script_locks_itself_and_a_time_limit_belongs_inside() {
    let [script] = recipes("sh");
    let sandbox = Sandbox::new();
    program(&sandbox, "deploy", script.trim_start_matches("#!/bin/sh\n"));
    let text = page("docs/recipes.md");
    let count = run_in(&sandbox, "docs/recipes.md", &text, &sandbox.url());
    assert!(count > 5, "{count} commands");
}

/// The container's process 1 and its arguments.
fn in_a_container(sandbox: &Sandbox, image: &str) -> Ended {
    let words = ["ENTRYPOINT ", "CMD "].map(|key| {
        let list = value(image, key).trim_start_matches('[').trim_end_matches(']').to_string();
        list.split(", ").map(|word| word.trim_matches('"').to_string()).collect::<Vec<_>>()
    });
    let (variable, file) = value(image, "ENV ").split_once('=').expect("a value");
    let secret = sandbox.path(file.trim_start_matches('/'));
    create_dir_all(secret.parent().expect("a folder")).expect("made");
    write(&secret, sandbox.url()).expect("written");
    let mut unshare = sandbox.command("unshare");
    unshare.args(["--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    sandbox.start(unshare.args(words.concat()).env("PATH", path).env(variable, secret)).end()
}

#[test]
#[ignore = "needs a namespace of its own, as root or a user's: tests/run"]
fn process_1_of_a_container_passes_signals_and_exit_codes_on() {
    let [image] = recipes("dockerfile");
    // As `docker stop` does: the kernel gives process 1 only the signals that it has a handler for.
    let script =
        r#"trap "echo stopped; exit 3" TERM; cat /proc/1/comm; kill -TERM 1; sleep 60 & wait"#;
    let sandbox = sandbox("worker", script);
    let ended = in_a_container(&sandbox, &image).expect(3);
    assert_eq!(ended.stdout, "withlock\nstopped\n", "{ended:?}");
    assert!(sandbox.path("locks.db").exists(), "the URL in the secret counts");
}
