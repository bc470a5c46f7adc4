//! What a program writes with one driver, it writes with the other: the same types, with the same methods.

use std::collections::BTreeSet;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};

/// The methods that one driver alone has.
const BLOCKING: [&str; 6] = [
    // A future is awaited, with a limit by `tokio::time::timeout`, and ends by being dropped.
    "Acquire::cancelled_by",
    "Acquire::wait",
    "Guard::wait_lost",
    "Observer::changed_within",
    // The drop of a guard waits for nothing in lock-async.
    "Guard::release_in_background",
    // For a process that stops itself. The task of lock-async begins requests whenever it likes.
    "Locks::between_requests",
];
const ASYNC: [&str; 3] = [
    "Guard::lost",
    // There is no blocking client of sqlx's.
    "Admin::with_sqlx",
    "Locks::with_sqlx",
];

/// The types that one driver alone has.
const BLOCKING_TYPES: [&str; 1] = ["Cancel"];
const ASYNC_TYPES: [&str; 3] = ["Acquiring", "Lost", "SqlxPool"];

fn source(crate_folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_folder).join("src")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("read")
}

/// The names that a driver's users have.
fn types(crate_folder: &str) -> BTreeSet<String> {
    let text = read(&source(crate_folder).join("lib.rs"));
    let uses = text.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let words = uses.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_string).collect()
}

/// Adds the public methods in a folder, as `Type::method`.
fn methods(folder: &Path, all: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().to_string();
        if path.is_dir() && !["bin", "backend", "driver"].contains(&&*name) {
            methods(&path, all);
        } else if path.is_file() {
            methods_of(read(&path).split("#[cfg(test)]").next().expect("a part"), all);
        }
    }
}

fn methods_of(text: &str, all: &mut BTreeSet<String>) {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_string()
    };
    let mut owner = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("impl") {
            let rest = rest.strip_prefix("<'a>").unwrap_or(rest).trim_start();
            owner = word(rest);
        }
        let Some(rest) = line.strip_prefix("    pub ") else { continue };
        let rest =
            ["const ", "async "].iter().fold(rest, |rest, begin| rest.trim_start_matches(begin));
        if let Some(method) = rest.strip_prefix("fn ") {
            all.insert(format!("{owner}::{}", word(method)));
        }
    }
}

fn only<'a>(these: &'a BTreeSet<String>, others: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
    these.difference(others).map(String::as_str).collect()
}

#[test]
fn both_drivers_have_the_same_types() {
    let [blocking, tokio] = ["lock-sync", "lock-async"].map(types);
    assert!(blocking.len() > 40, "{blocking:?}");
    assert_eq!(only(&blocking, &tokio), BTreeSet::from(BLOCKING_TYPES));
    assert_eq!(only(&tokio, &blocking), BTreeSet::from(ASYNC_TYPES));
}

#[test]
fn both_drivers_have_the_same_methods() {
    let [blocking, tokio] = ["lock-sync", "lock-async"].map(|crate_folder| {
        let (mut all, types) = (BTreeSet::new(), types(crate_folder));
        methods(&source(crate_folder), &mut all);
        all.retain(|method| method.split("::").next().is_some_and(|owner| types.contains(owner)));
        all.retain(|method| !method.starts_with("Cancel::"));
        all
    });
    assert!(blocking.len() > 60, "{blocking:?}");
    assert_eq!(only(&blocking, &tokio), BTreeSet::from(BLOCKING));
    assert_eq!(only(&tokio, &blocking), BTreeSet::from(ASYNC));
}

/// A type that a caller gets, or must give, has a name in the driver's crate.
#[test]
fn callers_can_name_what_they_meet() {
    fn turned(fault: impl Into<lock_async::Fault>) -> lock_sync::Fault {
        fault.into()
    }
    let failure = lock_core::Failure::not_now(String::new());
    let code: Option<lock_sync::Code> = failure.code();
    let same: Option<lock_async::Code> = code;
    assert!(same.is_none());
    let error = lock_sync::Error::from(lock_sync::PurgeError::NoRows);
    assert!(matches!(error, lock_async::Error::Purge(lock_async::PurgeError::NoRows)));
    let holder = lock_sync::Holder::new("", Default::default(), Default::default());
    let (place, watched): (Option<lock_async::Place>, _) = (holder.place, holder.watched);
    let version: Option<lock_async::LeaseVersion> = watched.map(|(version, _)| version);
    let (place, version): (Option<lock_sync::Place>, Option<lock_sync::LeaseVersion>) =
        (place, version);
    assert!(place.is_none() && version.is_none());
    assert_eq!(turned("told").to_string(), "told");
}

/// A worker that catches panics may have a guard outside of what it calls.
#[test]
fn what_is_held_may_be_used_after_a_caught_panic() {
    fn both<T: UnwindSafe + RefUnwindSafe>() {}
    both::<lock_sync::Locks>();
    both::<lock_async::Locks>();
    both::<lock_sync::Guard>();
    both::<lock_async::Guard>();
    both::<lock_async::Lost>();
    both::<lock_sync::Cancel>();
}
