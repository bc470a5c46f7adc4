//! What people read, on standard error. Standard output is the command's alone.

use lock_core::duration::Shown;
use std::any::Any;
use std::ffi::OsStr;
use std::io::Write;
use std::time::Duration;

/// Writes a line to standard error. That it cannot be written must change nothing else.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "withlock: {}", format_args!($($text)*));
    }};
}
pub(crate) use say;

/// Writes to standard output what was asked for. Who closes the pipe early has read enough.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A program's name, or what others wrote, on one line and without orders to the terminal.
pub(crate) fn printable(text: impl AsRef<OsStr>) -> String {
    text.as_ref().to_string_lossy().replace(char::is_control, "?")
}

/// From now on panics print nothing: where one ends something, that is told, in one line.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// The message of a panic.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    printable(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic"))
}

/// Who is told how much.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// A time for people: without what is less than a second.
pub(crate) fn seconds(duration: Duration) -> Shown {
    Shown(Duration::from_secs(duration.as_secs()))
}
