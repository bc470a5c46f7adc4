//! The members of an election: each is a process, and writes down when it leads.

use super::record::{Pen, now};
use lock_sync::Config;
use lock_tests::withlock::binary;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The environment variable that makes a process a member.
const MEMBER: &str = "LOCK_TEST_MEMBER";
/// The office.
const NAME: &str = "leader";
/// The time between two lines of a leader.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `lock_sync::Locks::campaign`.
    Blocking,
    /// `lock_async::Locks::campaign`.
    Tokio,
    /// `withlock --leader`, whose command leads for as long as it lives.
    Withlock,
}

/// How a member is started.
pub(super) struct Member {
    pub(super) kind: Kind,
    pub(super) number: usize,
    pub(super) url: String,
    pub(super) record: PathBuf,
}

impl Member {
    /// Starts the member, as a process that runs `test` again.
    pub(super) fn start(&self, test: &str) -> Child {
        let this = std::env::current_exe().expect("known");
        let test = format!("elections::{test}");
        let again = ["--exact", &test, "--include-ignored", "--test-threads=1", "--nocapture"];
        let mut command = match self.kind {
            Kind::Withlock => {
                let mut command = Command::new(binary());
                command.args(["--leader", "--db", &self.url, NAME, "--"]).arg(this);
                command
            }
            _ => Command::new(this),
        };
        let Self { kind, number, url, record } = self;
        command
            .args(again)
            .env(MEMBER, format!("{kind:?}\n{number}\n{url}\n{}", record.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if std::env::var_os("RUST_TEST_NOCAPTURE").is_none() {
            command.stderr(Stdio::null());
        }
        command.spawn().expect("it runs")
    }

    /// Leads again and again, if this process was started as a member. Does not return then.
    pub(super) fn of_this_process() {
        let Ok(text) = std::env::var(MEMBER) else { return };
        let [kind, number, url, record] = text.split('\n').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let mut pen = Pen::new(Path::new(record), number.parse().expect("a number"));
        if kind != "Withlock" {
            // The command of withlock is ended by withlock, or the trial fails.
            set_parent_process_death_signal(Some(Signal::KILL)).expect("set");
        }
        let config = || url.parse::<Config>().expect("a good URL");
        match kind {
            "Withlock" => {
                let term = std::env::var("WITHLOCK_FENCE").expect("set by withlock");
                let term = term.parse().expect("a number");
                loop {
                    pen.led(term, now());
                    std::thread::sleep(PAUSE);
                }
            }
            "Blocking" => loop {
                let Ok(locks) = lock_sync::Locks::open(config()) else {
                    std::thread::sleep(PAUSE);
                    continue;
                };
                let ended = locks.campaign(NAME, |term| {
                    loop {
                        let at = now();
                        // A hold that lasts a moment later lasted at that one.
                        if !term.is_held() {
                            return ControlFlow::<()>::Continue(());
                        }
                        pen.led(term.fence().get(), at);
                        std::thread::sleep(PAUSE);
                    }
                });
                eprintln!("{ended:?}");
            },
            _ => tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
                loop {
                    let Ok(locks) = lock_async::Locks::open(config()).await else {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    };
                    let ended = locks
                        .campaign(NAME, async |term| {
                            loop {
                                let at = now();
                                if !term.is_held() {
                                    return ControlFlow::<()>::Continue(());
                                }
                                pen.led(term.fence().get(), at);
                                tokio::time::sleep(PAUSE).await;
                            }
                        })
                        .await;
                    eprintln!("{ended:?}");
                }
            }),
        }
    }
}
