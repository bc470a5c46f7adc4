//! Locks held and handed on for hours: does memory, or the number of descriptors or threads, grow? `tests/soak` starts the
//! servers and runs it.
//!
//! `soak SECONDS [PLACE...]` starts a process for each place and driver. Each holds [`HELD`] locks, and keeps as many waiters
//! as [`WAITERS`]: two contenders share a lock, so that one holds it, and the other first rests and then waits. It samples itself; this process
//! prints the samples, and fails if something grew, a lock was lost, or a waiter was left out.
//!
//! `LOCK_SOAK_FAULT` seeds a fault in the processes, to show that it is seen: descriptor, memory, thread, loss, waiter.

mod load;
mod places;
mod sample;
mod verdict;

use places::Place;
use sample::Sample;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use verdict::{MIB, Run, mean, quarter, range};

/// Locks that each process holds from the beginning to the end.
pub(crate) const HELD: usize = 1000;
/// Waiters that each process has on average.
pub(crate) const WAITERS: usize = 50;
/// glibc keeps what was freed for the thread that freed it, for a hundred threads more and more over hours. Without that,
/// what grows is what the process keeps. It also keeps the large buffers of connections that have ended, once it has freed the first: the
/// threshold, once it is set, has them given back.
const FLAT: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=131072",
);
/// The argument by which a process is told what it is; a driver, a URL and seconds follow.
const PART: &str = "--part";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [PART, driver, url, seconds] = args[..] {
        return load::run(driver, url, seconds.parse().expect("seconds"));
    }
    let (seconds, wanted) = args
        .split_first()
        .map_or((Ok(7200), &args[..]), |(seconds, wanted)| (seconds.parse(), wanted));
    let Ok(seconds) = seconds else {
        eprintln!("soak [SECONDS [PLACE...]]");
        return ExitCode::from(2);
    };
    let folder = tempfile::tempdir().expect("a folder");
    let places = places::all(folder.path(), wanted);
    let runs = soak(&places, seconds);
    table(&runs);
    let faults: Vec<String> = runs.iter().flat_map(Run::faults).collect();
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    if runs.is_empty() {
        println!("FAILED: there is no such place");
    }
    ExitCode::from(u8::from(!faults.is_empty() || runs.is_empty()))
}

/// Runs all processes, and returns what they and the servers came to.
fn soak(places: &[Place], seconds: u64) -> Vec<Run> {
    let began = Instant::now();
    let every = sample::interval(seconds);
    std::thread::scope(|scope| {
        let mut parts = Vec::new();
        for place in places {
            for driver in ["lock-sync", "lock-async"] {
                let mut child = start(driver, &place.url, seconds);
                let stdout = child.stdout.take().expect("piped");
                let name = format!("{}, {driver}", place.name);
                parts.push(scope.spawn(move || attend(name, child, stdout, every, began)));
            }
        }
        parts.into_iter().map(|part| part.join().expect("no panic")).collect()
    })
}

fn start(driver: &str, url: &str, seconds: u64) -> Child {
    let program = std::env::current_exe().expect("known");
    let mut command = Command::new(program);
    command
        .args([PART, driver, url, &seconds.to_string()])
        .env(FLAT.0, FLAT.1)
        .stdout(Stdio::piped());
    command.spawn().expect("started")
}

/// Reads a process's samples until it ends. Prints one a minute.
fn attend(
    name: String,
    mut child: Child,
    stdout: ChildStdout,
    every: Duration,
    began: Instant,
) -> Run {
    let (mut samples, mut printed) = (Vec::new(), None::<Instant>);
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Some(sample) = Sample::from_line(&line) else {
            println!("{name}: {line}");
            continue;
        };
        if printed.is_none_or(|at| at.elapsed() + every / 2 >= Duration::from_secs(60)) {
            println!("{:>5} s  {name}: {sample}", began.elapsed().as_secs());
            printed = Some(Instant::now());
        }
        samples.push(sample);
    }
    let ended = child.wait().expect("it ends");
    Run { name, samples, ended }
}

fn table(runs: &[Run]) {
    println!(
        "\n| place, driver | samples | RSS, MiB: 1st, 2nd, last quarter | heap and stacks, MiB | descriptors | threads | server's connections | hand-offs | longest wait, s | lost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for run in runs {
        let Some(last) = run.samples.last() else { continue };
        let means = |figure: fn(&Sample) -> u64| {
            [0, 1, 3]
                .map(|at| format!("{:.1}", mean(quarter(&run.samples, at), figure) / MIB))
                .join(", ")
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} |",
            run.name,
            run.samples.len(),
            means(|sample| sample.resident),
            means(|sample| sample.anonymous),
            range(&run.samples, |sample| sample.descriptors),
            range(&run.samples, |sample| sample.threads),
            range(&run.samples, |sample| sample.connections),
            last.handoffs,
            last.longest_wait as f64 / 1e3,
            last.lost,
        );
    }
}
