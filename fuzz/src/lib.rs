//! The code of the fuzz targets. Each takes any bytes and panics if a promise is broken.
//!
//! A program in `fuzz_targets` hands libFuzzer's inputs to each target, with the feature `fuzzer`. Ordinary tests, without libFuzzer, replay
//! the committed inputs and mutations of them through the same functions.
#![allow(clippy::missing_panics_doc)] // To panic is how a target tells.

mod advisory;
mod answers;
mod consul;
mod input;
mod names;
mod pgpass;
mod schedules;
mod settings;
mod sql;
mod urls;

pub use advisory::advisory_rows;
pub use answers::consul_answers;
pub use consul::consul_bodies;
pub use names::names;
pub use pgpass::pgpass;
pub use schedules::{schedules, schedules_advisory, schedules_consul};
pub use settings::settings;
pub use sql::sql_rows;
pub use urls::urls;

use input::Input;

/// A fuzz target: its name, which is also its corpus's, and its code.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 11] = [
    ("sql_rows", sql_rows),
    ("consul_bodies", consul_bodies),
    ("consul_answers", consul_answers),
    ("advisory_rows", advisory_rows),
    ("names", names),
    ("urls", urls),
    ("settings", settings),
    ("pgpass", pgpass),
    ("schedules", schedules),
    ("schedules_advisory", schedules_advisory),
    ("schedules_consul", schedules_consul),
];
