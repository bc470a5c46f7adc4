//! The line of keys in which those that wait for a lock in Consul stand.

use lock_core::http::Method;
use lock_tests::consul::Consul;
use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(600);

/// A lock's key in Consul, and the sessions that other programs have it by.
struct Key {
    consul: Consul,
    key: String,
}

impl Key {
    fn line(&self, session: &str) -> String {
        format!("{}=line/{session}", self.key)
    }

    /// All of this at once: what is done, to which key, by whom.
    fn changes(&self, all: &[(&str, String, &str)]) {
        let operations = all.iter().map(|(verb, key, session)| {
            let value = if *verb == "lock" { r#","Value":"""# } else { "" };
            format!(r#"{{"KV":{{"Verb":"{verb}","Key":"{key}","Session":"{session}"{value}}}}}"#)
        });
        let body = format!("[{}]", operations.collect::<Vec<_>>().join(","));
        let answer = self.consul.raw(Method::Put, "/v1/txn", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn waiters(&self) -> usize {
        let path = format!("/v1/kv/{}?keys", self.line(""));
        self.consul.raw(Method::Get, &path, "").body.matches("=line/").count()
    }
}

/// The holder frees the lock and joins the line again, and another takes it, before the waiter behind it hears of that. The
/// entry that the waiter waited for has ended, although another of the same session is there.
fn who_joins_again_is_behind_who_waited_for_it(driver: Driver) {
    let place = Place::consul();
    let (_, prefix) = place.url().rsplit_once('/').expect("a prefix");
    let consul = Consul::at(&format!("http://{}", server_of(place.url())));
    let key = Key { consul: consul.clone(), key: format!("{prefix}/a/lock") };
    let [holder, other] = [(), ()].map(|()| consul.session(TTL, Duration::from_secs(1)));
    let (holder, other) = (holder.as_str(), other.as_str());
    let (lock, entry) = (key.key.clone(), key.line(holder));
    key.changes(&[("lock", lock.clone(), holder), ("lock", entry.clone(), holder)]);

    let proxy = Proxy::start(&server_of(place.url()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    proxy.answer(move |bytes| {
        let request = String::from_utf8_lossy(bytes);
        let path = request.lines().next().and_then(|line| line.split_once("consistent"));
        if let Some((about, since)) = path {
            let (in_line, waits) = (about.contains("line"), since.contains("&index="));
            heard.lock().expect("no panic").push((in_line, waits));
        }
        None
    });
    let asked = || asked.lock().expect("no panic").clone();
    let waits = || asked().iter().filter(|(_, waits)| *waits).count();
    let locks = Driven::new(driver, place.through(&proxy.url(place.url()))).locks(TTL);
    let waiter = std::thread::spawn(move || locks.lock("a").expect("granted").release());
    assert!(eventually(|| key.waiters() == 2), "it joins the line");
    assert!(eventually(|| waits() == 1), "it waits for the one ahead");
    key.changes(&[
        ("unlock", lock.clone(), holder),
        ("delete", entry.clone(), holder),
        ("lock", entry, holder),
        ("lock", lock.clone(), other),
    ]);
    assert!(eventually(|| waits() == 2), "it waits on");
    key.changes(&[("unlock", lock, other)]);
    waiter.join().expect("no panic").expect("freed");
    let last = asked().into_iter().rfind(|(_, waits)| *waits);
    assert_eq!(last, Some((false, true)), "nobody is ahead of it: {:?}", asked());
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn who_joins_again_is_behind_who_waited_for_it_blocking() {
    who_joins_again_is_behind_who_waited_for_it(Driver::Blocking);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn who_joins_again_is_behind_who_waited_for_it_with_tokio() {
    who_joins_again_is_behind_who_waited_for_it(Driver::Tokio);
}
