//! Traces of drivers, replayed against the model.
//!
//! Engines write them to the folder that `LOCK_TRACES` names, as `tests/run` does; see `lock_shared::engine`.

use crate::place::Place;
pub use lock_core::sim::replay::Depth;
use lock_core::sim::replay::{self, Replayed, Trace};
use lock_shared::clock;
use lock_shared::engine::file_name;
use std::fs::DirEntry;
use std::path::PathBuf;

/// The folder of the traces, if there is one.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("LOCK_TRACES").map(PathBuf::from)
}

/// The traces of the engines that had their locks in this place, whichever processes they are in, up to now: of a request that
/// is under way, none has what it did.
pub fn of(place: &Place) -> Vec<Trace> {
    let Some(folder) = folder() else { return Vec::new() };
    let (now, mark) = (clock::now(), file_name(&place.mark()));
    let ends = |text: &str| !text.starts_with(|next: char| next.is_ascii_digit());
    let read = |file: DirEntry| {
        let name = file.file_name().into_string().expect("a name that the recorder made");
        let is_ours = name.ends_with(".trace") && name.split(&mark).skip(1).any(ends);
        let text = is_ours.then(|| std::fs::read_to_string(file.path()).expect("a trace"))?;
        let mut trace = Trace::read(&name, &text)?;
        trace.lines.retain(|line| line.read <= now);
        Some(trace)
    };
    let files = std::fs::read_dir(folder).expect("the folder of the traces");
    files.filter_map(|file| read(file.expect("a file"))).collect()
}

/// Replays all that was done with the locks of a place: nobody has stepped a clock. If the test has changed them past the
/// drivers, only the drivers are looked at. Returns how much was replayed; nothing if nothing is recorded.
///
/// # Panics
/// If the model cannot do the same.
pub fn check(place: &Place) -> Option<Replayed> {
    check_to(place, Depth::Answers)
}

/// The same to this depth.
///
/// # Panics
/// If the model cannot do the same.
pub fn check_to(place: &Place, depth: Depth) -> Option<Replayed> {
    folder()?;
    let traces = of(place);
    assert!(!traces.is_empty(), "nothing was recorded of {}", place.table());
    let depth = if place.is_tampered() { Depth::Drivers } else { depth };
    match replay::check(&traces, depth) {
        Ok(replayed) => {
            println!("{} traces of {}: {replayed:?}", traces.len(), place.table());
            // One crowd may be too many for the search.
            assert!(replayed.given_up <= 1, "most of {} was not compared", place.table());
            Some(replayed)
        }
        Err(difference) => {
            panic!("the model cannot do what was done in {}: {difference}", place.table())
        }
    }
}
