//! A standard error to which nothing can be written: a pipe that nobody reads.

use lock_tests::withlock::{HANG, Run, Sandbox, eventually};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};

/// A pipe that takes no more bytes until somebody reads.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reads, mut full) = std::io::pipe().expect("a pipe");
    fill(&mut full, b'.');
    (reads, full)
}

/// Writes this byte to a pipe until it takes no more.
pub(crate) fn fill<P: Write + AsFd>(pipe: &mut P, byte: u8) {
    ioctl_fionbio(&*pipe, true).expect("set");
    for size in [4096, 1] {
        while pipe.write(&[byte; 4096][..size]).is_ok() {}
    }
    ioctl_fionbio(&*pipe, false).expect("set");
}

/// True if a thread of a process waits for somebody to read from a pipe.
pub(crate) fn is_writing(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    threads.into_iter().flatten().flatten().any(|thread| {
        let waits_in = std::fs::read_to_string(thread.path().join("wchan"));
        waits_in.unwrap_or_default().contains("pipe_write")
    })
}

/// A holder, and a withlock that waits and has something to say to a pipe that nobody reads.
fn waits_before_a_full_pipe(sandbox: &Sandbox, args: &[&str]) -> (Run, Child, PipeReader) {
    let holder = sandbox.hold(&sandbox.url(), &["n"], "while [ ! -e go ]; do sleep 0.02; done");
    let (reads, full) = full_pipe();
    let args = [args, &["-v", "n", "--", "touch", "ran"]].concat();
    let mut command = sandbox.withlock(&sandbox.url(), &args);
    let waiter = command.stderr(full).spawn().expect("started");
    let pid = Pid::from_child(&waiter);
    eventually("it says that it waits", || is_writing(pid));
    (holder, waiter, reads)
}

#[track_caller]
fn ends(mut waiter: Child, code: i32) {
    let until = Instant::now() + HANG;
    while waiter.try_wait().expect("known").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = waiter.kill();
    assert_eq!(waiter.wait().expect("ended").code(), Some(code));
}

/// To exec, Rust makes such a pipe's signal deadly again.
#[test]
fn a_pipe_that_nobody_reads_any_more_changes_no_exit_code() {
    let sandbox = Sandbox::new();
    for (args, code) in [
        (&["-v", "n", "--", "true"][..], 0),
        (&["-v", "n", "--", "/nowhere"], 127),
        (&["-v", "n", "--", "/"], 126),
        (&["--nope"], 125),
    ] {
        let (reads, closed) = std::io::pipe().expect("a pipe");
        drop(reads);
        let mut command = sandbox.withlock(&sandbox.url(), args);
        ends(command.stderr(closed).spawn().expect("started"), code);
    }
}

#[test]
fn a_signal_ends_a_wait_of_which_nothing_can_be_written() {
    let sandbox = Sandbox::new();
    let (_holder, waiter, _reads) = waits_before_a_full_pipe(&sandbox, &[]);
    kill_process(Pid::from_child(&waiter), Signal::TERM).expect("there");
    ends(waiter, 143);
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn a_wait_of_which_nothing_can_be_written_has_its_limit() {
    let sandbox = Sandbox::new();
    let (_holder, waiter, _reads) = waits_before_a_full_pipe(&sandbox, &["-w", "5s"]);
    ends(waiter, 124);
    assert!(!sandbox.path("ran").exists());
}

/// It is the command's own process that says so.
#[test]
fn a_command_that_does_not_exist_holds_no_lock_though_nothing_can_be_written() {
    let sandbox = Sandbox::new();
    for leader in [&[][..], &["--leader"]] {
        let (_reads, full) = full_pipe();
        let args = [leader, &["n", "--", "/nowhere"]].concat();
        let mut command = sandbox.withlock(&sandbox.url(), &args);
        ends(command.stderr(full).spawn().expect("started"), 127);
        sandbox.run(&sandbox.url(), &["-n", "n", "--", "true"]).expect(0);
    }
}

#[test]
fn a_lock_is_not_held_for_nothing_though_nothing_can_be_written() {
    let sandbox = Sandbox::new();
    let (holder, waiter, _reads) = waits_before_a_full_pipe(&sandbox, &[]);
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(0);
    ends(waiter, 0);
    assert!(sandbox.path("ran").exists());
}
