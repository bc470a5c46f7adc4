//! The process that connected. A fork of it has a copy of its memory, but none of its threads, and the
//! connections belong to the parent.

/// A process, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The calling process. Asks the system each time: in a fork, a stored id would be the parent's.
    pub fn current() -> Self {
        Self(std::process::id())
    }

    /// True if the caller is in this process, and not in a fork of it.
    pub fn is_current(self) -> bool {
        self == Self::current()
    }
}
