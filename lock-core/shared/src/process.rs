//! The process that connected. A fork of it has a copy of its memory, but none of its threads, and the
//! connections belong to the parent.

use forkguard::atfork::Guard;

/// A process.
#[derive(Clone, Debug)]
pub struct Process(Known);

#[derive(Clone, Debug)]
enum Known {
    /// By a count of forks, which a handler of `fork(2)` keeps in each child. Reading it is no call of the system.
    Count(Guard),
    /// By its id, where the C library did not take the handler.
    Id(u32),
}

impl Process {
    /// The calling process.
    pub fn current() -> Self {
        Self(Guard::try_new().map_or_else(|_| Known::Id(std::process::id()), Known::Count))
    }

    /// True if the caller is in this process, and not in a fork of it.
    pub fn is_current(&self) -> bool {
        match &self.0 {
            Known::Count(forks) => !forks.clone().detected_fork(),
            Known::Id(id) => *id == std::process::id(),
        }
    }
}
