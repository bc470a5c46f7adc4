//! A writer's process: it claims the lock, makes sure that it has it, writes and commits. Before it writes and before it
//! commits, it says so and waits to be told to go on; there, the trial may stop it.

use super::{By, Dice, TTL};
use lock_core::{Fence, Outcome, Reply, Request, SessionName};
use lock_tests::place::Place;
use lock_tests::raw::Raw;
use lock_tests::table::{AnyTable, claims};
use lock_tests::user::User;
use std::io::BufRead;
use std::time::{Duration, Instant, SystemTime};

/// The environment variable that makes a process a writer.
pub(super) const WRITER: &str = "LOCK_TEST_WRITER";
/// What it says begins so.
pub(super) const SAYS: &str = "the writer says: ";

/// The longest pause without a signal.
const SHORT: Duration = Duration::from_millis(4);

pub(super) struct Writer {
    pub(super) place: Place,
    pub(super) by: By,
    pub(super) number: u64,
}

/// On a clock that all processes have.
fn now() -> lock_core::Instant {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    lock_core::Instant::from_nanos(u64::try_from(now.as_nanos()).expect("no century"))
}

fn says(word: &str) {
    println!("{SAYS}{word}");
}

/// Waits to be told to go on. False if there is nobody who tells.
fn is_to_go_on() -> bool {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|bytes| bytes > 0)
}

impl Writer {
    pub(super) fn of_this_process() -> Option<Self> {
        let text = std::env::var(WRITER).ok()?;
        let [url, table, by, number] = text.split('\n').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let by = if by == "pin" { By::Pin } else { By::Check };
        Some(Self { place: Place::of(url, table), by, number: number.parse().expect("a number") })
    }

    pub(super) fn to_text(&self) -> String {
        let by = if self.by == By::Pin { "pin" } else { "check" };
        format!("{}\n{}\n{by}\n{}", self.place.url(), self.place.table(), self.number)
    }

    pub(super) fn run(&self) {
        let mut table = AnyTable::of(self.place.through(self.place.url()));
        let mut user = User::of(&self.place);
        let mut dice = Dice::of(self.number);
        let mut owner = u128::from(self.number) << 64;
        while is_to_go_on() {
            owner += 1;
            let fence = Self::acquire(&mut table, owner, &mut dice);
            let granted = Instant::now();
            let word = match self.write(&table, &mut user, fence, &mut dice) {
                Ok(true) if granted.elapsed() > TTL => "late",
                Ok(true) => "committed",
                Ok(false) => "lost",
                Err(_) => {
                    let _ = user.run("ROLLBACK");
                    "failed"
                }
            };
            if dice.below(2) == 0 {
                table.release(&["a"], owner);
            }
            says(word);
        }
    }

    /// Claims the lock until it is granted.
    fn acquire(table: &mut AnyTable, owner: u128, dice: &mut Dice) -> Fence {
        loop {
            let request = Request::Acquire {
                session: SessionName::default(),
                claims: claims(&["a"], owner),
                ttl: TTL,
                min_uptime: Duration::ZERO,
                label: "h".into(),
            };
            let told = table.client.ask(&table.codec, &request, now());
            if let Ok(Reply::Outcomes(outcomes)) = told
                && let [Outcome::Granted(fence)] = outcomes[..]
            {
                return fence;
            }
            // Another has it, or a deadlock was resolved.
            std::thread::sleep(Duration::from_micros(500 + dice.below(3_000)));
        }
    }

    /// One transaction. False if the lock is lost.
    fn write(
        &self,
        table: &AnyTable,
        user: &mut User,
        fence: Fence,
        dice: &mut Dice,
    ) -> Result<bool, String> {
        let file = matches!(user, User::Sqlite(_));
        let check = match self.by {
            By::Pin => table.pin("a", fence),
            By::Check => format!(
                "SELECT fence FROM {} WHERE name = 'a' AND fence = {fence} AND owner IS NOT NULL",
                self.place.table()
            ),
        };
        // In a file, a transaction that has checked would keep others from claiming the lock.
        let begins_late = file && self.by == By::Check;
        if !begins_late {
            user.run("BEGIN")?;
        }
        if user.run(&check)?.is_empty() {
            if !begins_late {
                user.run("ROLLBACK")?;
            }
            return Ok(false);
        }
        Self::gate(dice);
        if begins_late {
            user.begin();
        }
        let data = format!("{}_data", self.place.table());
        // The later holder's fence is there if it has written before.
        user.run(&format!(
            "UPDATE {data} SET wrong = wrong + CASE WHEN fence > {fence} THEN 1 ELSE 0 END, \
             fence = CASE WHEN fence > {fence} THEN fence ELSE {fence} END"
        ))?;
        Self::gate(dice);
        user.run("COMMIT")?;
        Ok(true)
    }

    fn gate(dice: &mut Dice) {
        says("gate");
        is_to_go_on();
        dice.pause(SHORT);
    }
}
