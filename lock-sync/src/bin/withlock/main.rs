//! `withlock NAME [options] -- COMMAND…`: runs a command while holding a lock.
//!
//! ```text
//!   main      exit codes                args      the command line          help      help and completions
//!   run       acquire, run, release     place     the place of the locks    report    messages
//!   waiting   messages about a wait     hold      while the lock is held    signals   signals to withlock
//!   child     the command's processes   guardian  the end of the command    ending    signals by its deadline
//!   role      withlock's own processes  command   the exec of the command   label     the name of the command
//!   manual    the manual page           look      --list, --break and so on nested    a withlock inside another
//!   source    sources of the URL        connect   the first connect         asking    the wait
//!   stage     what a signal does        release   the release           group     who is left of a command
//!   writer    writes to standard error  order   messages to and from the guardian
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("withlock needs Linux: nothing else ends a command whose withlock was killed");

mod args;
mod asking;
mod child;
mod command;
mod connect;
mod ending;
mod group;
mod guardian;
mod help;
mod hold;
mod inbox;
mod label;
mod look;
mod manual;
mod nested;
mod order;
mod place;
mod release;
mod report;
mod role;
mod run;
mod signals;
mod source;
mod stage;
mod terminal;
mod waiting;
mod writer;

use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    report::silence_panics();
    signals::let_long_writes_fail();
    // Unwinding the stack ends the command that was started.
    catch_unwind(withlock).unwrap_or_else(|panic| {
        failed(&format!("withlock has a bug: {}", report::panicked(&*panic)))
    })
}

fn withlock() -> ExitCode {
    // withlock starts itself in other roles; see `child`.
    if let Some(code) = role::played() {
        return code;
    }
    let args = match args::parse() {
        Ok(args) => args,
        Err(args::Stop::Print(text)) => {
            // A terminal gets colours. A reader that closes the pipe early has read enough.
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
        Err(args::Stop::Usage(message)) => return failed(&message),
    };
    if let Some(shell) = args.completions {
        help::completions(shell);
    } else if args.man {
        help::manual();
    } else {
        return run::run(args).unwrap_or_else(|message| failed(&message));
    }
    ExitCode::SUCCESS
}

/// Reports that withlock itself failed.
fn failed(message: &str) -> ExitCode {
    report::say!("{message}");
    ExitCode::from(run::FAILED)
}
