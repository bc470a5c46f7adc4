//! The hosts of a URL: which one a connect tries, for how long, and what it says if none can be used.
//!
//! A driver only connects. A host that fails, or that takes no writes, is passed over for the next. The first
//! to be tried is the one that was connected to last: after a fail-over, no later connect waits for the dead
//! primary.

use lock_core::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The place in the URL of the host that was connected to last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LastHost(Arc<AtomicUsize>);

/// The hosts of a URL, in its order, each with its name for errors. At least one.
#[derive(Clone)]
pub struct Hosts<H> {
    all: Vec<(String, H)>,
    last: LastHost,
}

/// An attempt to connect to one of the hosts.
pub struct Turn<'a, H> {
    /// The host's place in the URL.
    pub at: usize,
    pub host: &'a H,
    /// Time limit of the attempt.
    pub limit: Duration,
}

/// The attempts of one connect. Each host has one turn.
pub struct Turns<'a, H, E> {
    hosts: &'a Hosts<H>,
    first: usize,
    begun: usize,
    until: Instant,
    errors: Vec<(&'a str, E)>,
}

/// The error of an attempt to connect.
pub trait HostError: Sized {
    /// The error in one line.
    fn told(&self) -> String;

    /// True if the error stays until someone acts.
    fn stays(&self) -> bool;

    /// The same error, which says that it happened at `host`.
    fn at(self, host: &str) -> Self;

    /// The error of a connect that failed at each host.
    fn of_all(told: String, stays: bool) -> Self;
}

impl<H> Hosts<H> {
    pub fn new(all: Vec<(String, H)>, last: LastHost) -> Self {
        Self { all, last }
    }

    /// The same hosts, each made into something else.
    pub fn map<T>(self, mut make: impl FnMut(H) -> T) -> Hosts<T> {
        let all = self.all.into_iter().map(|(name, host)| (name, make(host))).collect();
        Hosts { all, last: self.last }
    }

    /// The same, if nothing goes wrong with any of them.
    pub fn try_map<T, E>(self, mut make: impl FnMut(H) -> Result<T, E>) -> Result<Hosts<T>, E> {
        let all = self.all.into_iter().map(|(name, host)| Ok((name, make(host)?)));
        Ok(Hosts { all: all.collect::<Result<_, E>>()?, last: self.last })
    }

    /// True if there is a choice.
    pub fn are_many(&self) -> bool {
        self.all.len() > 1
    }

    /// The host at this place in the URL.
    pub fn get(&self, at: usize) -> Option<&H> {
        self.all.get(at).map(|(_, host)| host)
    }

    /// Adds the name of the host at `at` to an error of a request that was sent to it.
    pub fn named<E: HostError>(&self, at: usize, error: E) -> E {
        match self.all.get(at) {
            Some((name, _)) => error.at(name),
            None => error,
        }
    }

    /// The turns of a connect that must end within `limit`.
    pub fn turns<E>(&self, limit: Duration) -> Turns<'_, H, E> {
        let until = Instant::now() + limit;
        Turns { hosts: self, first: self.first(), begun: 0, until, errors: Vec::new() }
    }

    /// The place of the host that the next connect tries first.
    pub fn first(&self) -> usize {
        self.last.0.load(Ordering::Relaxed) % self.all.len().max(1)
    }

    /// Makes the host at `at` the first to be tried.
    pub fn prefer(&self, at: usize) {
        self.last.0.store(at, Ordering::Relaxed);
    }

    /// Makes another host the first to be tried, if it is this one: it was connected to, and does not answer.
    pub fn pass_over(&self, at: usize) {
        let next = (at + 1) % self.all.len().max(1);
        let _ = self.last.0.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl<'a, H, E: HostError> Turns<'a, H, E> {
    /// The next host; `None` if each had its turn. A host that does not answer leaves time for the others.
    pub fn next_turn(&mut self) -> Option<Turn<'a, H>> {
        let many = self.hosts.all.len();
        if self.begun == many {
            return None;
        }
        let at = (self.first + self.begun) % many;
        let limit = share(self.until, many - self.begun);
        self.begun += 1;
        Some(Turn { at, host: self.hosts.get(at)?, limit })
    }

    /// The attempt of the last turn failed.
    pub fn failed(&mut self, error: E) {
        let many = self.hosts.all.len();
        let at = (self.first + self.begun.saturating_sub(1)) % many.max(1);
        let name = self.hosts.all.get(at).map_or("", |(name, _)| name);
        self.errors.push((name, error));
    }

    /// The error of the connect. It stays only if that of each host does.
    pub fn error(mut self) -> E {
        if !self.hosts.are_many()
            && let Some((name, only)) = self.errors.pop()
        {
            return only.at(name);
        }
        let stays = !self.errors.is_empty() && self.errors.iter().all(|(_, error)| error.stays());
        // What it says first is what the URL names first.
        let begins = self.hosts.all.len().saturating_sub(self.first);
        let begins = begins % self.errors.len().max(1);
        self.errors.rotate_left(begins);
        let mut each: Vec<(String, String)> = Vec::new();
        for (name, error) in &self.errors {
            match each.last_mut() {
                Some((names, told)) if *told == error.told() => *names += &format!(", {name}"),
                _ => each.push((name.to_string(), error.told())),
            }
        }
        let each: Vec<_> = each.iter().map(|(names, told)| format!("{names}: {told}")).collect();
        E::of_all(format!("none of the hosts can be used: {}", each.join("; ")), stays)
    }
}

impl HostError for Failure {
    fn told(&self) -> String {
        self.to_string()
    }

    fn stays(&self) -> bool {
        matches!(self, Self::Rejected { retry: false, .. })
    }

    fn at(mut self, host: &str) -> Self {
        match &mut self {
            Self::NotSent(told) | Self::Unknown(told) | Self::Rejected { message: told, .. } => {
                *told = format!("{host}: {told}");
            }
            _ => {}
        }
        self
    }

    fn of_all(told: String, stays: bool) -> Self {
        if stays { Self::refused(told) } else { Self::NotSent(told) }
    }
}

/// Time limit of the next of `many` attempts that must all end by `until`.
pub fn share(until: Instant, many: usize) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left / u32::try_from(many.max(1)).unwrap_or(u32::MAX)
}

/// The URL once for each host that it lists: `mysql://u@a:1,b/d` is `mysql://u@a:1/d` and `mysql://u@b/d`.
pub(crate) fn each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("//") else { return vec![url.to_string()] };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let hosts = authority.rfind('@').map_or(0, |at| at + 1);
    let (login, hosts) = authority.split_at(hosts);
    hosts.split(',').map(|host| format!("{scheme}//{login}{host}{path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn hosts(names: &[&str]) -> Hosts<()> {
        let all = names.iter().map(|name| (name.to_string(), ())).collect();
        Hosts::new(all, LastHost::default())
    }

    /// The order of the turns, each of which fails in its way.
    fn order(hosts: &Hosts<()>, errors: &[Failure]) -> (Vec<usize>, Failure) {
        let mut turns = hosts.turns(LIMIT);
        let mut order = Vec::new();
        while let Some(turn) = turns.next_turn() {
            // The hosts before it took no time, so that the last one has nearly all of it.
            let left = u32::try_from(errors.len() - order.len()).expect("few");
            let limits = LIMIT / (left + 1)..=LIMIT / left;
            assert!(limits.contains(&turn.limit), "{limits:?}: {:?}", turn.limit);
            turns.failed(errors[turn.at].clone());
            order.push(turn.at);
        }
        (order, turns.error())
    }

    #[test]
    fn turns_begin_with_the_host_that_was_connected_to_last() {
        let three = hosts(&["a", "b", "c"]);
        let errors = ["x", "y", "z"].map(|told| Failure::NotSent(told.to_string()));
        let told = Failure::NotSent("none of the hosts can be used: a: x; b: y; c: z".to_string());
        assert_eq!(order(&three, &errors), (vec![0, 1, 2], told.clone()));
        three.prefer(1);
        assert_eq!(order(&three.clone(), &errors), (vec![1, 2, 0], told.clone()));
        for other in [0, 2] {
            three.pass_over(other);
            assert_eq!(three.first(), 1, "it was not the first");
        }
        three.pass_over(1);
        assert_eq!(order(&three.clone().map(|()| ()), &errors), (vec![2, 0, 1], told));
        three.pass_over(2);
        assert_eq!(three.first(), 0);
        three.pass_over(0);
        assert_eq!(three.first(), 1, "also after the last one was");
    }

    #[test]
    fn an_error_stays_only_at_all_hosts() {
        let two = hosts(&["a", "b"]);
        let [dead, wrong] = [Failure::NotSent("dead".into()), Failure::refused("wrong".into())];
        let only = order(&hosts(&["a"]), std::slice::from_ref(&wrong)).1;
        assert_eq!(only, Failure::refused("a: wrong".to_string()));
        let told = |told: &str| format!("none of the hosts can be used: {told}");
        let both = order(&two, &[wrong.clone(), wrong.clone()]).1;
        assert_eq!(both, Failure::refused(told("a, b: wrong")));
        let both = order(&two, &[dead, wrong.clone()]).1;
        assert_eq!(both, Failure::NotSent(told("a: dead; b: wrong")));
        let other = Failure::refused("other".to_string());
        assert_eq!(order(&two, &[wrong, other]).1, Failure::refused(told("a: wrong; b: other")));
    }

    #[test]
    fn a_url_is_read_once_for_each_host() {
        for (url, all) in [
            ("mysql://h/d", vec!["mysql://h/d"]),
            (
                "mysql://u:p,@a:1,[::1]:2,c/d,e",
                vec!["mysql://u:p,@a:1/d,e", "mysql://u:p,@[::1]:2/d,e", "mysql://u:p,@c/d,e"],
            ),
            ("consul://a,b", vec!["consul://a", "consul://b"]),
            ("consul://a,", vec!["consul://a", "consul://"]),
            ("mysql:/d", vec!["mysql:/d"]),
        ] {
            assert_eq!(each_host(url), all);
        }
    }
}
