//! Waiting behind others of the same process, of which only one asks the server.

use crate::heard::Heard;
use crate::places::{SOON, TTL};
use lock_sync::{Busy, Error, LockName, Progress, Wait};
use lock_tests::drivers::Driven;
use lock_tests::place::Keeps;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

/// The label that `told` names, which must be one; [`None`] if it is known only that somebody has it.
fn label(told: &[Progress]) -> Option<String> {
    let labels = told.iter().map(|news| match news {
        Progress::Busy(busy) => busy.holder.as_ref().map(|holder| holder.label.clone()),
        other => panic!("{other:?}"),
    });
    let labels: Vec<_> = labels.collect();
    assert!(labels.iter().all(|label| *label == labels[0]), "{told:?}");
    labels.into_iter().next().expect("something is told")
}

pub(crate) fn waiting_behind_ones_own_process_tells_who_is_in_the_way(place: &Driven) {
    let locks = place.labelled(TTL, "the \"nightly\" job");
    let guard = locks.lock("a").expect("taken");
    let is_ours = |told: &[Progress]| {
        let label = label(told).expect("a holder");
        assert!(label.contains(&format!("pid {}", std::process::id())), "{label}");
        assert!(label.contains("the \"nightly\" job"), "{label}");
    };
    let ends_in_vain = |wait| {
        let mut told = Vec::new();
        let heard = Heard::default();
        let acquired = heard.during(|| {
            let waiting = locks.acquire("a").wait_limit(wait);
            waiting.on_waiting(|news| told.push(news.clone())).wait().map(drop)
        });
        let Err(Error::Busy(busy)) = acquired else { panic!("{acquired:?}") };
        told.push(Progress::Busy(*busy));
        is_ours(&told);
        let waits = heard.waits();
        assert!(waits.iter().all(|wait| wait.contains("the \"nightly\" job")), "{waits:?}");
        (told.len(), waits.len())
    };
    assert_eq!(ends_in_vain(Wait::Never), (1, 0), "told at the end, for it does not wait");
    // While it waits and at the end, if the server had the time to answer. And `tracing` may not have asked a
    // subscriber that came while another test told the event for the first time.
    let waits = [500, 2_000, 8_000, 32_000].map(Duration::from_millis);
    let is_told = |wait| ends_in_vain(Wait::For(wait)) == (2, 1);
    assert!(waits.into_iter().any(is_told), "told while it waits");
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let waiter = scope.spawn(|| {
            let tell = move |news: &Progress| drop(tell.send(news.clone()));
            locks.acquire("a").on_waiting(tell).wait()
        });
        is_ours(&[told.recv_timeout(SOON).expect("told while it waits")]);
        guard.release().expect("released");
        let next = waiter.join().expect("no panic").expect("granted");
        assert!(next.is_held());
        assert!(told.recv().is_err(), "told once");
    });
}

/// Only the first of them asks the server.
pub(crate) fn all_that_wait_in_a_process_are_told_who_is_in_the_way(place: &Driven) {
    let ours = place.labelled(TTL, "the \"nightly\" job");
    let guard = ours.lock("a").expect("taken");
    let theirs = place.locks(TTL);
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let (theirs, tell) = (theirs.clone(), tell.clone());
                scope.spawn(move || {
                    let tell = |news: &Progress| tell.send((n, news.clone())).expect("heard");
                    let guard = theirs.acquire("a").on_waiting(tell).wait();
                    guard.expect("granted").release().expect("released");
                })
            })
            .collect();
        let mut first = BTreeMap::new();
        while first.len() < 3 {
            let (n, news) = told.recv_timeout(SOON).expect("each is told while it waits");
            first.entry(n).or_insert(news);
        }
        for news in first.into_values() {
            let label = label(&[news]);
            let named = label.is_some_and(|label| label.contains("the \"nightly\" job"));
            assert_eq!(named, place.keeps() == Keeps::Rows);
        }
        guard.release().expect("released");
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
    });
}

pub(crate) fn waiting_tells_who_is_in_the_way(place: &Driven) {
    let ours = place.labelled(TTL, "the \"nightly\" job");
    let _guard = ours.lock("a").expect("taken");
    let theirs = place.locks(TTL);
    // At the first denial, and all by the error at the end.
    for (wait, times) in [(Wait::For(Duration::from_secs(2)), 1), (Wait::Never, 0)] {
        let mut told = Vec::new();
        let waiting = theirs.acquire("a").wait_limit(wait);
        let error = waiting.on_waiting(|news| told.push(news.clone())).wait().map(drop);
        assert_eq!(told.len(), times, "{told:?}");
        let Err(Error::Busy(busy)) = error else { panic!("{error:?}") };
        assert_eq!(busy.name.as_str(), "a");
        told.push(Progress::Busy(*busy));
        for news in &told {
            if place.keeps() != Keeps::Rows {
                // Nobody is asked who has it.
                let name = LockName::new("a").expect("good");
                assert_eq!(*news, Progress::Busy(Busy::new(name, None)));
                continue;
            }
            let Progress::Busy(Busy { holder: Some(holder), .. }) = news else {
                panic!("{told:?}")
            };
            assert!(holder.label.contains(&format!("pid {}", std::process::id())), "{holder:?}");
            assert!(holder.label.contains("the \"nightly\" job"), "{holder:?}");
            let soon = holder.held_for < Duration::from_secs(20) && holder.expires_in <= TTL;
            assert!(soon, "{holder:?}");
        }
    }
}
