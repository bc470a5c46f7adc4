//! The process that connected. A fork of it has a copy of its memory, but none of its threads, and the
//! connections belong to the parent.

use forkguard::atfork::Guard;
use std::sync::OnceLock;

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

/// Something that each process has one of. A fork makes its own: it has none of the threads that belong to its copy of the
/// parent's, and a mutex of that copy may be locked for ever.
pub struct PerProcess<T> {
    process: Process,
    it: T,
    fork: OnceLock<Box<Self>>,
}

impl<T> PerProcess<T> {
    /// That of the calling process. `first` is the first process's, and leads to that of its fork, and so on.
    pub fn here(first: &'static OnceLock<Self>, make: fn() -> T) -> &'static T {
        let new = || Self { process: Process::current(), it: make(), fork: OnceLock::new() };
        let mut known = first.get_or_init(new);
        while !known.process.is_current() {
            known = known.fork.get_or_init(|| Box::new(new()));
        }
        &known.it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fork of a fork has no threads of its parent's either.
    #[test]
    fn each_process_has_its_own() {
        static FIRST: OnceLock<PerProcess<u32>> = OnceLock::new();
        let of_another = |it, fork| PerProcess { process: Process(Known::Id(0)), it, fork };
        let fork = OnceLock::from(Box::new(of_another(2, OnceLock::new())));
        assert!(FIRST.set(of_another(1, fork)).is_ok());
        for make in [(|| 3) as fn() -> u32, || 4] {
            assert_eq!(PerProcess::here(&FIRST, make), &3);
        }
    }
}
