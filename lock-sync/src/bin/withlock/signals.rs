//! Signals from other processes and the terminal.

use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;
use std::io;

/// Signals by which a terminal or a supervisor ends withlock. They end a wait.
pub(crate) const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// Signals of a terminal's keys. The terminal sends them to the command, too, if the command is in its group.
pub(crate) const KEYS: [i32; 3] = [SIGINT, SIGQUIT, SIGWINCH];
/// Those after which withlock runs no command again. To a command, HUP often means to read its files again.
pub(crate) const FINAL: [i32; 3] = [SIGINT, SIGQUIT, SIGTERM];
const PASSED_ON: [i32; 5] = [SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, STOP];

pub(crate) const CHILD: i32 = SIGCHLD;
/// Signal of the terminal's stop key. If it stopped only withlock, the command would run on past its lease.
pub(crate) const STOP: i32 = SIGTSTP;

/// Starts a thread that calls `notice` with each signal, including those of `more`. Signals that were ignored
/// when withlock started, for example by `nohup`, stay ignored, for the command too.
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

/// The ignored signals as the kernel's bit mask.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
