//! The terminal that the command shares with withlock.

use crate::group::words;
use rustix::termios::tcgetsid;
use std::io::{IsTerminal, stdin};

/// This process's group, if the command belongs into it: in the foreground of this session's terminal, or if it may be fetched
/// there and read from the terminal. Then it gets the signals of the terminal's keys.
pub(crate) fn shared_group() -> Option<i32> {
    // It fails for a terminal of another session, whose keys mean others.
    shared(&stat(), || tcgetsid(stdin()).is_ok())
}

/// True if standard input is a terminal of a session in another PID namespace. No process of this one can be in its foreground.
pub(crate) fn is_beyond() -> bool {
    numbers(&stat()).is_some_and(|[group, session, ..]| group == 0 || session == 0)
        && stdin().is_terminal()
}

fn shared(stat: &str, reads: impl FnOnce() -> bool) -> Option<i32> {
    let [group, session, terminal, foreground] = numbers(stat)?;
    let is_here = group > 0 && session > 0 && terminal != 0;
    (is_here && (foreground == group || reads())).then_some(group)
}

/// Process group, session, terminal, and that terminal's foreground group. What another PID namespace has is 0.
fn numbers(stat: &str) -> Option<[i32; 4]> {
    let mut numbers = words(stat).skip(2).map_while(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?])
}

fn stat() -> String {
    std::fs::read_to_string("/proc/self/stat").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_shared_only_with_a_terminal_of_this_session_and_namespace() {
        for (stat, reads, group) in [
            ("7 (a) S 1 7 5 34816 7 0", false, Some(7)),
            ("7 (a) S 1 7 5 34816 9 0", false, None),
            ("7 (a) S 1 7 5 34816 9 0", true, Some(7)),
            ("7 (a) S 1 7 7 0 -1 0", true, None),
            ("1 (a) S 0 0 0 34816 0 0", true, None),
            ("1 (a) S 0 1 0 34816 1 0", true, None),
            ("", true, None),
        ] {
            assert_eq!(shared(stat, || reads), group, "{stat}");
        }
    }
}
