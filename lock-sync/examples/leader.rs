//! Cron on many machines: each day's report is sent exactly once, by whoever is the leader.
//!
//! ```text
//! cargo run -p lock-sync --example leader
//! ```
//!
//! Three threads stand for three machines whose clocks all strike. One of them leads, as long as it
//! lives: it holds the lock. When it stops, another takes over. What has been sent is noted with the
//! fence, so that a leader who was stopped and does not know that it has been replaced sends nothing.

use lock_sync::{Fence, Locks};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

const DAYS: u32 = 6;

/// Stands for the database of what was sent: by day, and by which grant.
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
    // Each of them leads for two days, and is then switched off.
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

/// Sends it, unless that has been done, or somebody with a later grant has been here.
fn send(sent: &mut Sent, day: u32, name: &'static str, fence: Fence) -> bool {
    if sent.highest > Some(fence) || sent.days.contains_key(&day) {
        return false;
    }
    sent.highest = Some(fence);
    sent.days.insert(day, name);
    true
}
