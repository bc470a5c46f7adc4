//! lock-core with bugs that can be switched on; see `table.rs`.
#![allow(warnings, clippy::all, clippy::pedantic)]

use std::cell::Cell;

include!(concat!(env!("OUT_DIR"), "/core/lib.rs"));
include!("../table.rs");

std::thread_local! {
    static ON: Cell<&'static str> = const { Cell::new("") };
}

/// Switches one bug on in this thread; an empty name: none.
pub fn switch(name: &'static str) {
    ON.set(name);
}

fn is_on(name: &str) -> bool {
    ON.get() == name
}
