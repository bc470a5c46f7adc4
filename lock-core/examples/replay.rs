//! Replays the traces in a folder against the model, those of each place together.
//!
//! `cargo run -p lock-core --features record,sim --example replay -- FOLDER`

use lock_core::sim::replay::{Depth, Trace, check};
use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("which folder?");
        return ExitCode::from(64);
    };
    let mut places: BTreeMap<String, Vec<Trace>> = BTreeMap::new();
    for file in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        if let Some(trace) = Trace::read(&file.file_name().to_string_lossy(), &text) {
            let place = trace.head.place.clone();
            // The same table may be reached through proxies.
            let path = |url: &str| url.rsplit('/').next().map(str::to_string);
            let file = place.starts_with("sqlite:").then(|| place.clone());
            places.entry(file.or(path(&place)).unwrap_or(place)).or_default().push(trace);
        }
    }
    let mut code = ExitCode::SUCCESS;
    for (place, traces) in places {
        match check(&traces, Depth::Answers) {
            Ok(replayed) => println!("{place}: {} traces, {replayed:?}", traces.len()),
            Err(difference) => {
                println!("{place}: {difference}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
