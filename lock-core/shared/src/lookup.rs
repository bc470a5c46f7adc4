//! Lookups of hosts' names.
//!
//! The system looks a name up without a time limit, and nothing interrupts it. So a thread of ours asks the
//! system, and its caller waits only as long as it likes. A runtime's blocking thread would not do, because
//! the end of the runtime waits for it.

#[cfg(any(test, feature = "testing"))]
pub mod stand_in;

use crate::process::PerProcess;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// The addresses of a name, which may be none, or an error in one line.
pub type Answer = Result<Vec<SocketAddr>, String>;

/// The lookups in flight, at most one for each name.
type UnderWay = Mutex<BTreeMap<String, Shared>>;

type Shared = Arc<Mutex<State>>;

/// The state that a lookup's thread shares with its waiters.
#[derive(Default)]
struct State {
    answer: Option<Answer>,
    next: usize,
    wakers: BTreeMap<usize, Waker>,
}

/// Waits for the addresses of a name. Dropping it ends the wait; the lookup goes on.
pub struct Lookup {
    port: u16,
    /// The key of this waiter's waker.
    id: usize,
    state: Shared,
}

/// Looks up a name. An IP address is its own answer. A lookup of the same name in flight is joined.
pub fn look_up(name: &str, port: u16) -> Lookup {
    let state = match name.parse() {
        Ok(ip) => {
            let answer = Some(Ok(vec![SocketAddr::new(ip, 0)]));
            Arc::new(Mutex::new(State { answer, ..State::default() }))
        }
        Err(_) => joined(name),
    };
    let mut waits = locked(&state);
    let id = waits.next;
    waits.next += 1;
    drop(waits);
    Lookup { port, id, state }
}

/// The error for a caller whose time ends before the lookup's answer.
pub fn late(name: &str) -> String {
    format!("the name server did not answer in time for {name}")
}

fn under_way() -> &'static UnderWay {
    static FIRST: OnceLock<PerProcess<UnderWay>> = OnceLock::new();
    PerProcess::here(&FIRST, UnderWay::default)
}

fn joined(name: &str) -> Shared {
    let key = name.to_string();
    let mut under_way = locked(self::under_way());
    if let Some(state) = under_way.get(&key) {
        return state.clone();
    }
    let state = Arc::new(Mutex::new(State::default()));
    let (asks, told) = (key.clone(), state.clone());
    let ask = move || {
        let answer = system(&asks);
        // A later caller asks anew.
        locked(self::under_way()).remove(&asks);
        tell(&told, answer);
    };
    match std::thread::Builder::new().name("lock lookup".to_string()).spawn(ask) {
        Ok(_) => drop(under_way.insert(key, state.clone())),
        Err(error) => tell(
            &state,
            Err(format!("the system cannot start a thread to look up {name}: {error}")),
        ),
    }
    state
}

fn tell(state: &Mutex<State>, answer: Answer) {
    let mut state = locked(state);
    state.answer = Some(answer);
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_values().for_each(Waker::wake);
}

fn system(name: &str) -> Answer {
    #[cfg(any(test, feature = "testing"))]
    if let Some(answer) = stand_in::instead_of_the_system(name) {
        return answer;
    }
    (name, 0).to_socket_addrs().map(Iterator::collect).map_err(|error| error.to_string())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Future for Lookup {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = locked(&self.state);
        let Some(answer) = state.answer.clone() else {
            state.wakers.insert(self.id, cx.waker().clone());
            return Poll::Pending;
        };
        let with_port = |mut address: SocketAddr| {
            address.set_port(self.port);
            address
        };
        Poll::Ready(answer.map(|all| all.into_iter().map(with_port).collect()))
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        locked(&self.state).wakers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::stand_in::Silent;
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    fn poll(lookup: &mut Lookup) -> Poll<Answer> {
        Pin::new(lookup).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits for the thread's answer.
    fn ended(lookup: &mut Lookup) -> Answer {
        loop {
            if let Poll::Ready(answer) = poll(lookup) {
                return answer;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_who_wait() {
        let silent = Silent::new("joined.invalid");
        let mut all = [1, 2, 3].map(|port| look_up(silent.name, port));
        assert!(all.iter_mut().all(|one| poll(one).is_pending()));
        let state = all[0].state.clone();
        assert_eq!(locked(&state).wakers.len(), 3);
        drop(look_up(silent.name, 4));
        let [first, second, gone] = &mut all;
        let gone = std::mem::replace(gone, look_up("::1", 0));
        drop(gone);
        assert_eq!(locked(&state).wakers.len(), 2, "who is gone is not woken");
        let asked = silent.asked.clone();
        drop(silent);
        assert_eq!(ended(first), Ok(vec!["127.0.0.9:1".parse().expect("good")]));
        assert_eq!(ended(second), Ok(vec!["127.0.0.9:2".parse().expect("good")]));
        assert_eq!(asked.load(SeqCst), 1);
        // An answer is not kept.
        ended(&mut look_up("joined.invalid", 0)).expect("answered");
        assert_eq!(asked.load(SeqCst), 2);
    }

    #[test]
    fn an_address_is_not_looked_up() {
        for (name, whole) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let found = poll(&mut look_up(name, 7));
            assert_eq!(found, Poll::Ready(Ok(vec![whole.parse().expect("good")])));
        }
    }

    #[test]
    fn a_name_is_told_in_its_error() {
        assert_eq!(late("db.example"), "the name server did not answer in time for db.example");
        assert!(ended(&mut look_up("a\0b", 0)).is_err());
    }
}
