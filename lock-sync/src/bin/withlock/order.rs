//! What withlock and the guardian tell each other.

use crate::ending::{Ending, OnLost};
use clap::ValueEnum;
use rustix::process::Signal;
use std::str::FromStr;
use std::time::Duration;

/// An order for the guardian: one line of text.
pub(crate) enum Order {
    /// The lock is held under this fence, and the command may begin in this process group. 0 stands for a
    /// group of its own, and for a lock that is no permit.
    Begin { fence: u64, permit: u32, group: i32, lease: Lease },
    /// The lease was renewed: the lock is certainly held until this time since boot.
    Until(Duration),
    /// The command gets this signal.
    Signal(Signal),
}

/// The lease that the command runs under.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) ending: Ending,
    /// The end of the lease, as time since boot. The lock is certainly held until then.
    pub(crate) until: Duration,
}

/// The guardian's report of what it did to the command because of the lease: one byte for each signal, and another if the
/// command did not get it. Before, there is the process id of the command, as an `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The guardian sent no signal.
    None,
    /// The guardian stopped the command.
    Stopped,
    /// The command never started, because the lease left it no time.
    NotBegun,
    /// The command has become another user, and gets no signal of ours.
    Powerless,
}

impl Report {
    /// Stands for the process id of a command that could not be prepared. The reason follows, for people.
    pub(crate) const NO_COMMAND: i32 = 0;
    pub(crate) const STOPPED: u8 = b's';
    pub(crate) const NOT_BEGUN: u8 = b'n';
    pub(crate) const POWERLESS: u8 = b'p';

    /// Reads a report.
    pub(crate) fn read(reported: &[u8]) -> Self {
        match reported.first() {
            None => Self::None,
            Some(_) if reported.contains(&Self::POWERLESS) => Self::Powerless,
            Some(&Self::NOT_BEGUN) => Self::NotBegun,
            Some(_) => Self::Stopped,
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begin { fence, permit, group, lease: Lease { ending, until } } => {
                let on_lost = ending.on_lost.to_possible_value();
                let on_lost = on_lost.as_ref().map_or("term", |value| value.get_name());
                let (grace, until) = (ending.grace.as_nanos(), until.as_nanos());
                writeln!(f, "begin {fence} {permit} {group} {on_lost} {grace} {until}")
            }
            Self::Until(until) => writeln!(f, "until {}", until.as_nanos()),
            Self::Signal(signal) => writeln!(f, "signal {}", signal.as_raw()),
        }
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let span = |text: &str| text.parse().map(Duration::from_nanos).map_err(drop);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin", fence, permit, group, on_lost, grace, until] => {
                let (fence, group) = (fence.parse().map_err(drop)?, group.parse().map_err(drop)?);
                let permit = permit.parse().map_err(drop)?;
                let on_lost = OnLost::from_str(on_lost, false).map_err(drop)?;
                let ending = Ending { on_lost, grace: span(grace)? };
                let lease = Lease { ending, until: span(until)? };
                Ok(Self::Begin { fence, permit, group, lease })
            }
            ["until", until] => span(until).map(Self::Until),
            ["signal", number] => {
                let number = number.parse().map_err(drop)?;
                Signal::from_named_raw(number).map(Self::Signal).ok_or(())
            }
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        let span = Duration::from_nanos;
        let ending = Ending { on_lost: OnLost::Kill, grace: span(3) };
        let lease = Lease { ending, until: span(4) };
        for (order, line) in [
            (Order::Begin { fence: 1, permit: 2, group: 0, lease }, "begin 1 2 0 kill 3 4\n"),
            (Order::Until(span(5)), "until 5\n"),
            (Order::Signal(Signal::USR1), "signal 10\n"),
        ] {
            assert_eq!(order.to_string(), line);
            let read = line.trim_end().parse().map(|order: Order| order.to_string());
            assert_eq!(read.as_deref(), Ok(line));
        }
        for line in ["", "until", "until x", "signal 0", "begin 1 2 0 kill 3", "end 5"] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
    }
}
