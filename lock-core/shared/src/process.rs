//! The process that connected. A fork of it has a copy of everything, but no threads, and connections
//! that are not its own.

/// A process, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The calling one. Asks the system each time: a number that was kept would be the parent's.
    pub fn current() -> Self {
        Self(std::process::id())
    }

    /// Whether the caller is still in it, and not in a fork.
    pub fn is_current(self) -> bool {
        self == Self::current()
    }
}
