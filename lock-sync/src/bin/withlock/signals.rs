//! What other processes want of us.

use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;
use std::io;

/// Those that end a wait, and that a terminal or a supervisor sends to end us.
pub(crate) const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// Those of the keys of a terminal, which it sends to the command too if it is in its group.
pub(crate) const KEYS: [i32; 3] = [SIGINT, SIGQUIT, SIGWINCH];
const PASSED_ON: [i32; 5] = [SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, STOP];

pub(crate) const CHILD: i32 = SIGCHLD;
/// The terminal's stop key. If it stopped us alone, the command would run on past the lease.
pub(crate) const STOP: i32 = SIGTSTP;

/// From now on, calls `notice` with each signal and with those of `more`, on a thread of its own.
/// Signals that we were started to ignore (by `nohup`, say) stay ignored, for the command too.
pub(crate) fn watch(more: &[i32], mut notice: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let ignored = ignored();
    let wanted =
        ENDING.iter().chain(&PASSED_ON).filter(|signal| ignored & (1 << (**signal - 1)) == 0);
    let mut signals = Signals::new(wanted.chain(&[CHILD]).chain(more))?;
    std::thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || signals.forever().for_each(&mut notice))?;
    Ok(())
}

/// The ignored signals, a bit each, as the kernel tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
