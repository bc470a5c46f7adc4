//! What a process sees of itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Figures of one moment.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Memory in use, in bytes.
    pub(crate) resident: u64,
    /// The part of it that is no file: heap and stacks.
    pub(crate) anonymous: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// TCP connections to the server among the descriptors.
    pub(crate) connections: u64,
    /// Grants to contenders so far.
    pub(crate) handoffs: u64,
    /// Locks lost, acquires failed and releases not confirmed so far.
    pub(crate) lost: u64,
    /// The longest wait of a contender so far, which may be under way, in milliseconds.
    pub(crate) longest_wait: u64,
    /// Contenders that have had no lock yet.
    pub(crate) left_out: u64,
}

/// How often a run of so many seconds is sampled.
pub(crate) fn interval(seconds: u64) -> Duration {
    Duration::from_millis((seconds * 1000 / 24).clamp(100, 10_000))
}

impl Sample {
    /// Of this process; the counts of its locks are zero.
    pub(crate) fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let links: Vec<_> = std::fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .collect();
        let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:"));
        Self {
            resident: figure("VmRSS:") * 1024,
            anonymous: figure("RssAnon:") * 1024,
            // One of them is that of the folder.
            descriptors: links.len() as u64 - 1,
            threads: figure("Threads:"),
            connections: sockets.count() as u64,
            ..Self::default()
        }
    }

    /// For the process that started this one.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("numbers")
    }

    /// What [`to_line`](Self::to_line) made.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RSS {} KiB, heap and stacks {} KiB, {} descriptors ({} sockets), {} threads, {} hand-offs, {} lost, longest wait {} ms",
            self.resident / 1024,
            self.anonymous / 1024,
            self.descriptors,
            self.connections,
            self.threads,
            self.handoffs,
            self.lost,
            self.longest_wait,
        )
    }
}
