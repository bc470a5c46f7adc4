//! A token that goes with every request, whoever makes it.

use super::*;
use lock_tests::drivers::Admin;
use std::sync::atomic::{AtomicBool, Ordering};

fn every_request_had_it(fake: &Fake) {
    let header = format!("x-consul-token: {TOKEN}");
    let asked = fake.asked(|asked| (asked.line.clone(), asked.headers.contains(&header)));
    assert!(!asked.is_empty() && asked.iter().all(|(_, there)| *there), "{asked:?}");
}

/// The first connection takes so long to answer that another one is tried.
pub(super) fn each_connect_has_the_token(driver: Driver) {
    let fake = Fake::start();
    let is_slow = AtomicBool::new(true);
    fake.answer(move |asked| {
        if is_slow.swap(false, Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2_500));
        }
        well(asked)
    });
    // A request may take 2 s, and its time is not chosen.
    let url = format!("consul://{}?token={TOKEN}&ttl=10s", fake.address);
    drop(connect(driver, &url).expect("the second is quick"));
    let checks = fake.asked(|asked| asked.line.clone());
    assert!(checks.len() > 3, "it was checked again: {checks:?}");
    every_request_had_it(&fake);
}

pub(super) fn a_look_has_the_token(driver: Driver) {
    let fake = Fake::start();
    fake.answer(|_| json(200, "[]"));
    let url = format!("consul://{}?token={TOKEN}", fake.address);
    let mut admin = Admin::connect(driver, &url, Duration::from_secs(30));
    assert_eq!(admin.list(), Ok(Vec::new()));
    every_request_had_it(&fake);
}
