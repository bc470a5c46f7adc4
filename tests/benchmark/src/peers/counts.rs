//! The system calls and instructions of a pair of lock and unlock, which do not depend on the hour.
//!
//! A process of its own makes pairs under `perf` and then under `valgrind`, few of them and then more. The difference is
//! the cost of the pairs, without the start. `valgrind` needs a build in which `rustix` goes through the C library
//! (`--features rustix/use-libc`): it hides the kernel's page of functions, where `rustix` looks for the clock.

use super::Setting;
use super::locker::Locker;
use super::pairs::{Caller, pairs};
use super::peer::{PEERS, Peer};
use crate::ours::NAME;
use std::process::Command;

/// The argument by which a process is told to make pairs. The maker, the caller and a number follow.
pub(crate) const PAIRS: &str = "--pairs";

const FEW: usize = 200;
const MORE: usize = 1200;

/// Counts what so many pairs cost.
type Count = fn(Peer, Caller, usize) -> Option<f64>;

/// Prints the counts of those who can make pairs.
pub(crate) fn run() {
    println!("\n### Counts: a pair of lock and unlock\n");
    println!(
        "| | system calls in a task | in `block_on` | thousand instructions of the program, in a task |"
    );
    println!("|---|---|---|---|");
    for peer in PEERS.into_iter().filter(|peer| peer.makes_pairs()) {
        let cell = |caller: Caller, count: Count, of: f64| {
            if peer.blocks() && caller == Caller::BlockOn {
                return "–".to_owned();
            }
            let [few, more] = [FEW, MORE].map(|pairs| count(peer, caller, pairs));
            let all = few.zip(more).map(|(few, more)| (more - few) / of);
            all.map_or("–".into(), |all| format!("{:.1}", all / (MORE - FEW) as f64))
        };
        println!(
            "| {peer} | {} | {} | {} |",
            cell(Caller::Task, system_calls, 1.),
            cell(Caller::BlockOn, system_calls, 1.),
            cell(Caller::Task, instructions, 1e3),
        );
    }
}

fn system_calls(by: Peer, caller: Caller, pairs: usize) -> Option<f64> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "--field-separator=,", "--event=raw_syscalls:sys_enter"]);
    counted(perf, by, caller, pairs, |line| {
        line.contains("raw_syscalls").then(|| line.split(',').next())?
    })
}

/// Those of the program, without the kernel's.
fn instructions(by: Peer, caller: Caller, pairs: usize) -> Option<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    counted(valgrind, by, caller, pairs, |line| line.split_once("Collected :").map(|(_, sum)| sum))
}

/// The sum that a tool prints about a process that makes pairs, if the tool is there and may count.
fn counted(
    mut tool: Command,
    by: Peer,
    caller: Caller,
    pairs: usize,
    sum: impl Fn(&str) -> Option<&str>,
) -> Option<f64> {
    tool.arg(std::env::current_exe().expect("known"));
    tool.args([PAIRS, &format!("{by:?}"), &format!("{caller:?}"), &pairs.to_string()]);
    let output = tool.output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told.lines().find_map(sum)?.trim().parse().ok()
}

/// Makes pairs, as one of the processes.
pub(crate) fn make(mut args: impl Iterator<Item = String>) {
    let (by, caller) = (args.next().expect("a peer"), args.next().expect("a caller"));
    let number = args.next().and_then(|number| number.parse().ok()).expect("a number");
    let peer = PEERS.into_iter().find(|peer| format!("{peer:?}") == by).expect("a peer");
    let callers = [Caller::Task, Caller::BlockOn];
    let caller = callers.into_iter().find(|one| format!("{one:?}") == caller).expect("a caller");
    let setting = Setting::new();
    let locker = Locker::connect(peer, &setting, &[NAME.to_owned()]);
    pairs(&setting, &locker, caller, number);
}
