//! Cron on many machines: the leader sends each day's report, once.
//!
//! ```text
//! cargo run -p lock-sync --example leader
//! ```
//!
//! Three threads stand for three machines. The one that holds the lock leads. When it stops, another takes over.
//! The record of sent reports contains the fence, so a leader that was stopped, and does not know its successor, sends
//! nothing.

use lock_sync::{Fence, Locks};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

const DAYS: u32 = 6;

/// Stands for the database of sent reports: the day, and the fence of the sender's grant.
#[derive(Default)]
struct Sent {
    days: BTreeMap<u32, &'static str>,
    highest: Option<Fence>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite:{}/locks.db", folder.path().display());
    let sent = Mutex::new(Sent::default());
    std::thread::scope(|scope| {
        let machines = ["one", "two", "three"].map(|name| {
            let (url, sent) = (&url, &sent);
            scope.spawn(move || machine(name, url, sent).map_err(|error| error.to_string()))
        });
        machines.into_iter().try_for_each(|machine| machine.join().expect("no panic"))
    })?;
    let days = sent.into_inner().expect("no panic").days;
    println!("reports sent: {}", days.len());
    Ok(())
}

fn machine(name: &'static str, url: &str, sent: &Mutex<Sent>) -> Result<(), Box<dyn Error>> {
    let locks = Locks::connect(url)?;
    // Wait to become the leader.
    let guard = locks.lock("daily-report")?;
    // Each machine leads for two days, and is then switched off.
    for _ in 0..2 {
        let mut sent = sent.lock().expect("no panic");
        let day = sent.days.len() as u32;
        if day < DAYS && guard.is_held() && send(&mut sent, day, name, guard.fence()) {
            println!("day {day}: sent");
        }
        drop(sent);
        sleep(Duration::from_millis(20));
    }
    guard.release()?;
    Ok(())
}

/// Sends the report, unless it was sent already, or a leader with a later grant has sent one.
fn send(sent: &mut Sent, day: u32, name: &'static str, fence: Fence) -> bool {
    if sent.highest > Some(fence) || sent.days.contains_key(&day) {
        return false;
    }
    sent.highest = Some(fence);
    sent.days.insert(day, name);
    true
}
