//! Trials of real clients on real servers, and the checker of their histories; see `tests/histories`.

use lock_tests::history::check::{Bounds, check};
use lock_tests::history::client::{Broken, Client, hold};
use lock_tests::history::trial::{Settings, run};
use lock_tests::history::{Event, What};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "histories run PLACE CYCLES SEED FILE [no|reply|cached|guardian [TTL]]\nhistories check FILE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", place, cycles, seed, file] => trial([place, cycles, seed, file, "no", ""]),
        ["run", place, cycles, seed, file, bug] => trial([place, cycles, seed, file, bug, ""]),
        ["run", place, cycles, seed, file, bug, ttl] => {
            trial([place, cycles, seed, file, bug, ttl])
        }
        ["check", file] => judge(Path::new(file)),
        ["client", ..] => {
            Client::of(&args[1..]).ok_or_else(|| USAGE.to_string()).map(|it| it.run())
        }
        ["hold", who, time, permits, file] => {
            let time = Duration::from_millis(time.parse().unwrap_or_default());
            hold(who, time, permits, Path::new(file));
            Ok(())
        }
        _ => Err(USAGE.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn trial([place, cycles, seed, file, broken, ttl]: [&str; 6]) -> Result<(), String> {
    let numbers = (cycles.parse().ok(), seed.parse().ok(), Broken::of(broken));
    let (Some(cycles), Some(seed), Some(broken)) = numbers else { return Err(USAGE.to_string()) };
    // In seconds.
    let ttl = ttl.parse().ok().map(Duration::from_secs);
    run(&Settings { place: place.to_string(), cycles, seed, broken, ttl }, Path::new(file))?;
    judge(Path::new(file))
}

/// Prints the figures of a history. Fails if it breaks a promise.
fn judge(file: &Path) -> Result<(), String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let events: Result<Vec<Event>, String> = text.lines().map(str::parse).collect();
    let events = events?;
    let began = events.iter().find_map(|event| match &event.what {
        What::Began(text) => Some(text.as_str()),
        _ => None,
    });
    let began = began.ok_or("no beginning")?;
    let ttl = began.split(' ').find_map(|word| word.strip_prefix("ttl=")?.parse().ok());
    let bounds = Bounds::of(Duration::from_millis(ttl.ok_or("no TTL")?));
    let (summary, found) = check(&events, &bounds);
    println!("{began}: {summary}");
    if found.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = found.iter().map(|violation| format!("  {violation}")).collect();
    Err(format!("{began}: {} violations in {}:\n{}", found.len(), file.display(), told.join("\n")))
}
