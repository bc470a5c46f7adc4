//! Signals from other processes and the terminal.

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1,
    SIGUSR2, SIGWINCH, SIGXFSZ,
};
use signal_hook::flag::{register, register_usize};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Signals by which a terminal or a supervisor ends withlock, and that of an alarm that was set before withlock was started.
/// They end a wait.
const ENDING: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM];
/// Those after which withlock runs no command again. To a command, HUP often means to read its files again.
const FINAL: [i32; 4] = [SIGINT, SIGQUIT, SIGTERM, SIGALRM];
/// Signals of a terminal's keys, and of a change of its size.
const KEYS: [i32; 3] = [SIGINT, SIGQUIT, SIGWINCH];
const PASSED_ON: [i32; 5] = [SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, STOP];

const CHILD: i32 = SIGCHLD;
/// Signal of the terminal's stop key. If it stopped only withlock, the command would run on past its lease.
const STOP: i32 = SIGTSTP;

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) signal: i32,
    /// The terminal sent it, to all processes of its foreground, and no process did.
    pub(crate) from_terminal: bool,
}

impl Came {
    /// A child has ended, or something else is to be looked at.
    pub(crate) const LOOK: Self = Self { signal: CHILD, from_terminal: false };

    fn of(origin: &Origin) -> Self {
        let from_terminal = KEYS.contains(&origin.signal) && matches!(origin.cause, Cause::Kernel);
        Self { signal: origin.signal, from_terminal }
    }

    /// True for [`LOOK`](Self::LOOK).
    pub(crate) fn is_a_look(self) -> bool {
        self.signal == CHILD
    }

    /// True for the terminal's stop key.
    pub(crate) fn stops(self) -> bool {
        self.signal == STOP
    }

    /// True if it ends a wait, and is a wish that the command ends.
    pub(crate) fn ends(self) -> bool {
        ENDING.contains(&self.signal)
    }

    /// True if withlock runs no command again after it.
    pub(crate) fn is_final(self) -> bool {
        FINAL.contains(&self.signal)
    }
}

/// The terminal's stop key, and what takes it back.
#[derive(Clone)]
pub(crate) struct StopKey {
    /// The one of the two signals that came last, or 0 if what it asked for was done.
    last: Arc<AtomicUsize>,
}

impl StopKey {
    /// Begins to notice the key. Call it before [`watch`], whose thread is told of the key later.
    pub(crate) fn watch() -> io::Result<Self> {
        let (last, ignored) = (Arc::new(AtomicUsize::new(0)), ignored());
        for signal in [STOP, SIGCONT] {
            if !is_in(ignored, signal) {
                register_usize(signal, last.clone(), signal as usize)?;
            }
        }
        Ok(Self { last })
    }

    /// True if the key was pressed, and neither [`heed`](Self::heed) nor CONT has come since.
    pub(crate) fn is_pressed(&self) -> bool {
        self.last.load(Ordering::SeqCst) == STOP as usize
    }

    /// Stops this process until it gets CONT, as the key would have done, if the key [is pressed](Self::is_pressed).
    pub(crate) fn heed(&self) {
        let (pressed, heeded) = (STOP as usize, 0);
        if self.last.compare_exchange(pressed, heeded, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}

/// Starts a thread that calls `notice` with each signal, including those of `more`. Signals that were ignored
/// when withlock started, for example by `nohup`, stay ignored, for the command too.
pub(crate) fn watch(more: &[i32], mut notice: impl FnMut(Came) + Send + 'static) -> io::Result<()> {
    let ignored = ignored();
    let wanted = ENDING.iter().chain(&PASSED_ON).filter(|signal| !is_in(ignored, **signal));
    let mut signals = SignalsInfo::<WithOrigin>::new(wanted.chain(&[CHILD]).chain(more))?;
    std::thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || signals.forever().for_each(|origin| notice(Came::of(&origin))))?;
    Ok(())
}

/// Has a write that would exceed the limit for files (`ulimit -f`) fail. Otherwise its signal would kill this process. A
/// signal with a handler, unlike one that is ignored, is as before for a process that this one starts or becomes.
pub(crate) fn let_long_writes_fail() {
    if !is_in(ignored(), SIGXFSZ) {
        let _ = register(SIGXFSZ, Arc::default());
    }
}

/// Has a write to a pipe that nobody reads fail, as Rust has it from the start until a process tries to become another
/// program.
pub(crate) fn let_writes_to_closed_pipes_fail() {
    let _ = register(SIGPIPE, Arc::default());
}

/// True if a kernel's bit mask has the signal.
fn is_in(mask: u64, signal: i32) -> bool {
    mask & (1 << (signal - 1)) != 0
}

/// The ignored signals as the kernel's bit mask.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
