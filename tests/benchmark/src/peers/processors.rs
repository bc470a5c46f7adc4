//! The processors that this process and the servers run on.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

/// So many of those that there are.
#[derive(Clone, Copy)]
pub(crate) struct Processors {
    chosen: CpuSet,
    count: usize,
}

impl Processors {
    /// One, and all that this process may use.
    pub(crate) fn choices() -> [Self; 2] {
        let all = sched_getaffinity(None).expect("known");
        let mut chosen = CpuSet::new();
        chosen.set((0..CpuSet::MAX_CPU).find(|at| all.is_set(*at)).expect("this runs on one"));
        [chosen, all].map(|chosen| Self { chosen, count: chosen.count() as usize })
    }

    /// Whether it is only one.
    pub(crate) fn is_one(&self) -> bool {
        self.count == 1
    }

    /// Moves all threads of this process, of the servers that `tests/servers` started, and of the servers' children. Later
    /// ones inherit it.
    pub(crate) fn take(self) {
        let mut processes = servers();
        processes.push(std::process::id() as i32);
        for process in processes {
            for thread in numbers(&format!("/proc/{process}/task")) {
                // It may have ended meanwhile.
                let _ = sched_setaffinity(Pid::from_raw(thread), &self.chosen);
            }
        }
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str("one processor"),
            all => write!(f, "{all} processors"),
        }
    }
}

/// The servers and their children.
fn servers() -> Vec<i32> {
    let Some(folder) = std::env::var_os("LOCK_SERVERS_DIR") else { return Vec::new() };
    let folders = read_dir(folder).into_iter().flatten().flatten();
    let started = folders.filter_map(|one| read_to_string(one.path().join("pid")).ok());
    let mut all: Vec<i32> = started.filter_map(|pid| pid.split(' ').next()?.parse().ok()).collect();
    let parents: Vec<(i32, i32)> = numbers("/proc")
        .filter_map(|pid| {
            let stat = read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
            let parent = stat.ok()?.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let children: Vec<i32> = parents
        .into_iter()
        .filter(|(_, parent)| all.contains(parent))
        .map(|(pid, _)| pid)
        .collect();
    all.extend(children);
    all
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = i32> {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
