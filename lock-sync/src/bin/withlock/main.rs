//! `withlock NAME [options] -- COMMAND…`: runs a command while holding a lock.
//!
//! ```text
//!   main      exit codes            args    the command line
//!   run       takes, runs, frees    child   the command's process
//!   report    what people read      signals what other processes want
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("withlock needs Linux: nothing else ends a command whose withlock was killed");

mod args;
mod child;
mod report;
mod run;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    // What withlock starts is itself, in another role; see `child`.
    if let Some(role) = child::requested() {
        return role.play();
    }
    match args::parse() {
        Ok(args) => match run::run(args) {
            Ok(code) => code,
            Err(message) => failed(&message),
        },
        Err(args::Stop::Print(text)) => {
            report::print(&text);
            ExitCode::SUCCESS
        }
        Err(args::Stop::Usage(message)) => failed(&message),
    }
}

/// withlock itself failed.
fn failed(message: &str) -> ExitCode {
    report::say!("{message}");
    ExitCode::from(run::FAILED)
}
