//! The members of the command's process group, and their states.

use rustix::process::Pid;
use std::fs::{read_dir, read_to_string};

/// A process group whose leader has ended and is not reaped, so that its number stays taken.
pub(crate) struct Group {
    id: i32,
    /// The last member that was found. While it runs, nobody searches for another.
    member: Option<i32>,
}

impl Group {
    pub(crate) fn of(leader: Pid) -> Self {
        Self { id: leader.as_raw_nonzero().get(), member: None }
    }

    /// True if a process of the group runs or is stopped. To a signal, the unreaped leader is a member like any other, and
    /// so are orphans that a container's first process never reaps. So /proc tells.
    pub(crate) fn has_members(&mut self) -> bool {
        let is_member = |pid: &i32| stat(*pid).is_some_and(|stat| belongs(&stat, self.id));
        self.member = self.member.filter(is_member).or_else(|| processes().find(is_member));
        self.member.is_some()
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// True if the process is there, and neither stopped nor dead.
pub(crate) fn runs(process: Pid) -> bool {
    let stat = stat(process.as_raw_nonzero().get()).unwrap_or_default();
    words(&stat).next().is_some_and(|state| !matches!(state, "T" | "t" | "Z" | "X"))
}

fn stat(pid: i32) -> Option<String> {
    read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// Of `PID (NAME) STATE PPID PGRP …`, where NAME may have spaces and parentheses, the words from STATE on.
pub(crate) fn words(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(") ").into_iter().flat_map(|(_, rest)| rest.split(' '))
}

fn belongs(stat: &str, group: i32) -> bool {
    let mut words = words(stat);
    let is_dead = matches!(words.next(), None | Some("Z" | "X"));
    !is_dead && words.nth(1).and_then(|word| word.parse().ok()) == Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    fn start(program: &str, group: i32) -> Child {
        Command::new(program).arg("600").process_group(group).spawn().expect("started")
    }

    #[test]
    fn a_line_of_the_kernel_names_the_group_after_the_name() {
        assert!(belongs("7 (a) Z 1 9 (b)) S 1 8 8 0", 8));
        assert!(belongs("7 (sh) T 1 8 8 0", 8));
        for other in ["7 (sh) S 8 1 8 0", "7 (sh) Z 1 8 8 0", "7 (sh) X 1 8 8 0", "7 (sh) S", ""] {
            assert!(!belongs(other, 8), "{other}");
        }
    }

    fn soon(mut is_so: impl FnMut() -> bool) {
        let began = std::time::Instant::now();
        while !is_so() {
            assert!(began.elapsed().as_secs() < 60, "it never is");
        }
    }

    #[test]
    fn who_has_ended_is_no_member() {
        let mut leader = start("sleep", 0);
        let mut group = Group::of(Pid::from_child(&leader));
        let mut other = start("sleep", group.id);
        leader.kill().expect("sent");
        soon(|| stat(group.id).expect("not reaped").contains(") Z "));
        assert!(group.has_members());
        other.kill().expect("sent");
        // Nobody reaps this one, either.
        soon(|| !group.has_members());
        other.wait().and_then(|_| leader.wait()).expect("reaped");
    }
}
