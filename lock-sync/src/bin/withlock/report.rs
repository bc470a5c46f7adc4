//! Messages for people, on standard error. Standard output belongs to the command.

use lock_core::duration::Shown;
use lock_core::table::is_unprintable;
use std::any::Any;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

/// Writes a line to standard error. Returns when it is written, or a little later if standard error blocks.
macro_rules! say {
    ($($text:tt)*) => {{
        $crate::writer::put(format!("withlock: {}\n", format_args!($($text)*)));
        $crate::writer::flush();
    }};
}
pub(crate) use say;

/// Writes to standard output. A reader that closes the pipe early has read enough.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Foreign text, such as a program's name, on one line and without control characters for the terminal.
pub(crate) fn printable(text: impl AsRef<OsStr>) -> String {
    text.as_ref().to_string_lossy().replace(is_unprintable, "?")
}

/// Keeps panics from printing. A panic that ends withlock is reported in one line.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// The message of a panic.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    printable(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic"))
}

/// The amount of messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// What the system did not give, in words. Of processes, threads and a thread's memory, it says only that they are
/// "unavailable".
pub(crate) fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!(
                "no more processes or threads are allowed here, as by ulimit -u, or there is no memory for a \
                 thread, as by ulimit -v or -d: {error}"
            )
        }
        io::ErrorKind::FileTooLarge => {
            format!("the limit for files (ulimit -f) is too low: {error}")
        }
        _ => error.to_string(),
    }
}

/// A time for people, in whole seconds.
pub(crate) fn seconds(duration: Duration) -> Shown {
    Shown(Duration::from_secs(duration.as_secs()))
}

/// The same of a time that is left: as long as there is any, it is not zero.
pub(crate) fn seconds_left(duration: Duration) -> Shown {
    seconds(duration.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_left_is_not_zero() {
        let shown = |ms| seconds_left(Duration::from_millis(ms)).to_string();
        assert_eq!([1, 999, 1_999].map(shown), ["1s"; 3]);
        assert_eq!(shown(4_999), "4s");
    }
}
