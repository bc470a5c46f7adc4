//! `withlock NAME [options] -- COMMAND…`: runs a command while holding a lock.
//!
//! ```text
//!   main     exit codes               args      the command line        help     what it says of itself
//!   run      takes, runs, frees       place     where locks are kept    report   what people read
//!   waiting  what they read of a wait hold      while it is held        signals  what others want
//!   child    the command's processes  guardian  what ends it in time    ending   when that is
//!   role     what each of them is     command   what becomes it        label    what it is called
//!   manual   the manual page       look     instead of a command
//!   source   what names a place       nested    a withlock in a command of another
//!   connect  the first part of a wait   asking   the wait
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("withlock needs Linux: nothing else ends a command whose withlock was killed");

mod args;
mod asking;
mod child;
mod command;
mod connect;
mod ending;
mod guardian;
mod help;
mod hold;
mod label;
mod look;
mod manual;
mod nested;
mod place;
mod report;
mod role;
mod run;
mod signals;
mod source;
mod waiting;

use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    report::silence_panics();
    // The program that it has started ends with it: the stack is unwound.
    catch_unwind(withlock).unwrap_or_else(|panic| {
        failed(&format!("this should not happen: {}", report::panicked(&*panic)))
    })
}

fn withlock() -> ExitCode {
    // What withlock starts is itself, in another role; see `child`.
    if let Some(code) = role::played() {
        return code;
    }
    let args = match args::parse() {
        Ok(args) => args,
        Err(args::Stop::Print(text)) => {
            // In colour on a terminal. Who closes the pipe early has read enough.
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

/// withlock itself failed.
fn failed(message: &str) -> ExitCode {
    report::say!("{message}");
    ExitCode::from(run::FAILED)
}
