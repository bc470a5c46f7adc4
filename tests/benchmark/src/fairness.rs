//! Eight processes that want one lock.

use crate::Backend;
use crate::times::ratio;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROCESSES: usize = 8;
const HOLD: Duration = Duration::from_millis(5);
const SPAN: Duration = Duration::from_secs(10);
/// The argument by which one of the processes is told what it is; a URL follows.
pub(crate) const CONTENDER: &str = "--contend-for-a-lock-at";

/// Prints how evenly they share it.
pub(crate) fn run(backends: &[Backend]) {
    println!(
        "\n## Fairness: {PROCESSES} processes on one lock, lock-sync, {HOLD:?} held, {SPAN:?}\n"
    );
    println!("| | fewest / most | worst wait ms | in turns of all |");
    println!("|---|---|---|---|");
    for backend in backends {
        let mut contenders: Vec<Child> = (0..PROCESSES).map(|_| start(&backend.url)).collect();
        for contender in &mut contenders {
            let ready = contender.stdout.as_mut().expect("piped").read(&mut [0]);
            assert_eq!(ready.ok(), Some(1), "it connects");
        }
        for contender in &mut contenders {
            drop(contender.stdin.take().expect("piped"));
        }
        let ended = contenders.into_iter().map(|one| one.wait_with_output().expect("it ends"));
        let shares: Vec<(u32, f64)> = ended
            .map(|output| {
                let told = String::from_utf8_lossy(&output.stdout).into_owned();
                let (count, worst) = told.trim().split_once(' ').expect("two numbers");
                (count.parse().expect("a number"), worst.parse().expect("a number"))
            })
            .collect();
        let fewest = shares.iter().map(|(count, _)| *count).min().unwrap_or(0);
        let most = shares.iter().map(|(count, _)| *count).max().unwrap_or(0).max(1);
        let total: u32 = shares.iter().map(|(count, _)| count).sum();
        let worst =
            Duration::from_secs_f64(shares.iter().map(|(_, worst)| *worst).fold(0., f64::max));
        println!(
            "| {} | {fewest} / {most} = {:.2} | {:.0} | {} |",
            backend.name,
            f64::from(fewest) / f64::from(most),
            worst.as_secs_f64() * 1e3,
            ratio(worst, SPAN / total.max(1) * PROCESSES as u32),
        );
    }
}

fn start(url: &str) -> Child {
    let program = std::env::current_exe().expect("known");
    let mut command = Command::new(program);
    command.args([CONTENDER, url]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("started")
}

/// What one of the processes does, once its standard input ends: it prints how often it had the lock,
/// and how long it waited for it at worst, in seconds.
pub(crate) fn contend(url: &str) {
    let locks = lock_sync::Locks::connect(url).expect("connected");
    // Advisory locks are not given away in a server's first TTL.
    let own = locks.lock(std::process::id().to_string()).expect("granted");
    own.release().expect("freed");
    let mut stdout = std::io::stdout();
    stdout.write_all(b" ").and_then(|()| stdout.flush()).expect("told");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("told");
    let (began, mut count, mut worst) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < SPAN {
        let wanted = Instant::now();
        let guard = locks.lock("contest").expect("granted");
        worst = worst.max(wanted.elapsed());
        count += 1;
        std::thread::sleep(HOLD);
        guard.release().expect("freed");
    }
    println!("{count} {}", worst.as_secs_f64());
}
