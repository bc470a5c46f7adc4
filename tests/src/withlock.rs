//! The command `withlock`: how tests run it, and how they judge what it ran.

use crate::place::Place;
use crate::traces;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use std::ffi::OsStr;
use std::fs::{File, read_to_string};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A run that takes longer hangs. The limit is generous, because the machine may be slow and other tests run.
pub const HANG: Duration = Duration::from_secs(60);

/// The environment variables that name a place.
const NAMES_A_PLACE: [&str; 5] = [
    "WITHLOCK_URL",
    "WITHLOCK_URL_FILE",
    "WITHLOCK_PLACE",
    "CREDENTIALS_DIRECTORY",
    "PG_CONNECTION_STRING",
];

/// The beginnings of the variables that complete a URL.
const COMPLETES_A_URL: [&str; 3] = ["PG", "MYSQL_", "CONSUL_"];

/// The command, built once, or the one at `LOCK_TEST_WITHLOCK`, such as a release's.
pub fn binary() -> &'static Path {
    &binaries().0
}

/// The same, and where traces are to be written, the same with a recorder, which no release has.
fn binaries() -> &'static (PathBuf, PathBuf) {
    static BINARIES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BINARIES.get_or_init(|| {
        if let Some(given) = std::env::var_os("LOCK_TEST_WITHLOCK").map(PathBuf::from) {
            return (given.clone(), given);
        }
        let recording = traces::folder().map(|_| {
            let built = build("cli,lock-shared/record");
            let kept = built.with_file_name("withlock-with-a-recorder");
            // The next build puts another in its place.
            let _ = std::fs::remove_file(&kept);
            std::fs::hard_link(&built, &kept).expect("linked");
            kept
        });
        let built = build("cli");
        let recording = recording.unwrap_or_else(|| built.clone());
        (built, recording)
    })
}

fn build(features: &str) -> PathBuf {
    let output = cargo()
        .args(["build", "--quiet", "--locked", "-p", "lock-sync", "--features", features])
        .args(["--bin", "withlock", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "withlock cannot be built");
    let told = String::from_utf8(output.stdout).expect("JSON");
    let path = told.split("\"executable\":\"").nth(1).and_then(|rest| rest.split('"').next());
    path.expect("cargo names the executable").into()
}

/// Cargo, in this workspace. The variables of the cargo that runs this test are removed. With them,
/// dependencies with assembly would be built twice.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Copies the command to a place where other users may run it. Another process makes the copy, because a
/// program that is open for writing cannot be run, and the children that other tests have just forked may
/// have this process's files open.
pub fn copy_binary(to: &Path) {
    let copied = Command::new("cp").arg(binary()).arg(to).status().expect("cp");
    assert!(copied.success(), "{}", to.display());
}

/// A folder in which `withlock` finds its home, and a test its files.
pub struct Sandbox {
    folder: tempfile::TempDir,
    runs: AtomicU32,
    binary: &'static Path,
}

impl Sandbox {
    /// Creates an empty folder. Dropping it removes the folder.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("withlock-").tempdir().expect("a folder");
        Self { folder, runs: AtomicU32::new(0), binary: binary() }
    }

    /// The same whose `withlock` leaves [traces].
    #[allow(clippy::new_without_default)]
    pub fn recorded() -> Self {
        Self { binary: &binaries().1, ..Self::new() }
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection that has the sandbox's file of locks for itself, so that no withlock gets to look at it.
    pub fn keep_the_file(&self) -> rusqlite::Connection {
        self.run(&self.url(), &["n", "--", "true"]).expect(0);
        let file = rusqlite::Connection::open(self.path("locks.db")).expect("opened");
        file.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        file
    }

    /// The content of a file. Empty if the file does not exist.
    pub fn read(&self, name: &str) -> String {
        read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The URL of an SQLite file in it.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path("locks.db").display())
    }

    /// Any program, without the environment variables about locks.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("W", self.binary)
            .stdin(Stdio::null());
        for name in NAMES_A_PLACE {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if COMPLETES_A_URL.iter().any(|beginning| text.starts_with(beginning)) {
                command.env_remove(&name);
            }
        }
        command
    }

    /// `withlock` with locks at `url`. If `url` is empty, the locks are in the user's own file, inside the
    /// sandbox.
    pub fn withlock(&self, url: &str, args: &[&str]) -> Command {
        let mut command = self.command(self.binary);
        if !url.is_empty() {
            command.env("WITHLOCK_URL", url);
        }
        command.args(args);
        command
    }

    /// Starts `command`. Its output goes to files, so that a process that keeps them open does not block the
    /// test.
    pub fn start(&self, command: &mut Command) -> Run {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let output = [".out", ".err"].map(|end| self.path(&format!("run-{number}{end}")));
        let [out, err] = output.each_ref().map(|path| File::create(path).expect("a file"));
        let mut child = command.stdout(out).stderr(err).spawn().expect("started");
        let stdin = child.stdin.take();
        Run { child, stdin, output, told: format!("{command:?}"), began: Instant::now() }
    }

    /// Runs `withlock` with locks at `url` to its end.
    pub fn run(&self, url: &str, args: &[&str]) -> Ended {
        self.start(&mut self.withlock(url, args)).end()
    }

    /// Starts a `withlock` that holds `name` and runs the shell script, and waits for the script to
    /// say `up`. Its process id is in the file `pid`.
    pub fn hold(&self, url: &str, args: &[&str], script: &str) -> Run {
        let script = format!("echo $$ >pid.new; mv pid.new pid; touch up; {script}");
        let args = [args, &["--", "sh", "-c", &script]].concat();
        let run = self.start(&mut self.withlock(url, &args));
        eventually("the holder runs its command", || self.path("up").exists());
        run
    }

    /// The process id that a script of [`hold`](Self::hold) has.
    pub fn child(&self) -> Pid {
        pid(&self.read("pid"))
    }
}

/// A process id that was written down.
pub fn pid(text: &str) -> Pid {
    text.trim().parse().ok().and_then(Pid::from_raw).expect("a process id")
}

/// The URL of a place, with its table.
pub fn url(place: &Place) -> String {
    place.whole_url()
}

/// A running command. Dropping it kills the command.
pub struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    output: [PathBuf; 2],
    told: String,
    began: Instant,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The status, as the system reports it.
    pub status: ExitStatus,
    /// The exit code; `128 + n` after signal n, as shells report it.
    pub code: i32,
    /// The text on standard output.
    pub stdout: String,
    /// The text on standard error.
    pub stderr: String,
    /// The report of a slow first connect: a line. On a busy machine, a good server causes it, too.
    pub slow: Option<String>,
    /// Time from the start to the end.
    pub took: Duration,
}

impl Run {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is there");
    }

    /// Types on its standard input.
    pub fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("written");
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("known").is_some()
    }

    /// The text on standard output and on standard error up to now.
    pub fn output(&self) -> [String; 2] {
        self.output.each_ref().map(|path| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        })
    }

    /// True once it said that it waits, and for someone: not for a server that is slow.
    pub fn waits(&self) -> bool {
        let [_, told] = self.output();
        let mut lines = told.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.any(|line| {
            line.starts_with(WAITING) && !is_slow(line) && !line.ends_with("; trying again\n")
        })
    }

    /// Waits for its end.
    pub fn end(self) -> Ended {
        self.end_within(HANG)
    }

    /// Waits for its end. Fails after `limit`.
    pub fn end_within(mut self, limit: Duration) -> Ended {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("known") {
                let took = self.began.elapsed();
                let [stdout, stderr] = self.output();
                let (slow, stderr): (Vec<_>, Vec<_>) =
                    stderr.split_inclusive('\n').partition(|line| is_slow(line));
                let slow = (!slow.is_empty()).then(|| slow.concat());
                let stderr = stderr.concat();
                let code = status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(-1);
                return Ended { status, code, stdout, stderr, slow, took };
            }
            assert!(
                Instant::now() < until,
                "{} hangs after {:?}: {:?}",
                self.told,
                self.began.elapsed(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const WAITING: &str = "withlock: waiting for ";

fn is_slow(line: &str) -> bool {
    line.starts_with(WAITING) && line.ends_with(": the server has not answered yet\n")
}

impl Ended {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Waits until `is_so` holds, and fails after a while.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + HANG;
    while !is_so() {
        assert!(Instant::now() < until, "this never happens: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// True if a process runs or is stopped, and is neither gone nor a zombie.
pub fn is_alive(pid: Pid) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// A process's state as the kernel tells it: R, S, D, T, Z, …
pub fn state(pid: Pid) -> Option<char> {
    let stat = read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A process's parent: of a command, its guardian.
pub fn parent(of: Pid) -> Pid {
    let stat = read_to_string(format!("/proc/{}/stat", of.as_raw_nonzero())).expect("it is there");
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
    pid(parent.expect("a line of the kernel's"))
}

/// The children of a process that still exist.
pub fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero();
    // Only the first thread of our processes starts any.
    let children = read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    children.split_whitespace().map(pid).collect()
}

/// Sends a signal to the process group that `member` is in, if it is there.
pub fn signal_group(member: Pid, signal: Signal) {
    if let Ok(group) = getpgid(Some(member)) {
        let _ = kill_process_group(group, signal);
    }
}

/// A log of wrapped commands. Each writes one line at its start and one before its end, with its fence, the
/// time and its process id.
///
/// The lines' order is that of the appends, so that no clock is needed to tell an overlap.
pub struct EventLog(PathBuf);

impl EventLog {
    /// A log in a file of its own.
    pub fn new(sandbox: &Sandbox) -> Self {
        Self(sandbox.path("events"))
    }

    /// A shell script that writes down its start, does `work`, and writes down its end.
    pub fn script(&self, work: &str) -> String {
        let tell = |what: &str| {
            let file = self.0.display();
            format!("echo {what} $WITHLOCK_FENCE $(date +%s%N) $$ >>'{file}'")
        };
        format!("{}; {work}; {}", tell("start"), tell("end"))
    }

    /// Checks that the intervals do not overlap, that their fences rise, and that there are `count`.
    #[track_caller]
    pub fn check(&self, count: usize) {
        let text = read_to_string(&self.0).expect("a log");
        let mut last = (0, 0);
        let mut inside = None;
        let mut seen = 0;
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [what, fence, time, pid] = words[..] else { panic!("torn: {line:?}") };
            let number = |text: &str| text.parse::<u64>().expect("a number");
            let (fence, time, pid) = (number(fence), number(time), number(pid));
            match (what, inside) {
                ("start", None) => {
                    assert!(last.0 < fence, "fence {fence} comes after {}", last.0);
                    inside = Some((fence, pid));
                }
                ("end", Some(started)) if started == (fence, pid) => {
                    inside = None;
                    seen += 1;
                }
                _ => panic!("{line:?} while {inside:?} is inside"),
            }
            assert!(last.1 <= time, "{line:?} comes after the time {}", last.1);
            last = (fence, time);
        }
        assert_eq!((inside, seen), (None, count), "(somebody still inside, intervals)");
    }
}
