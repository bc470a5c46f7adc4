//! Observing one lock: who has it, and when to look again.

use super::{Hold, LockState};
use crate::fence::Fence;
use crate::time::Instant;
use alloc::string::String;
use core::time::Duration;

/// The holder of a lock by which a leader is elected, as an observer read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Leader {
    /// The leader's words about itself: host, process id and a label of its own.
    pub label: String,
    /// The fence of its hold, which is the number of its term. It is greater than that of each earlier term.
    pub term: Fence,
    /// How long it had led when it was read, by the server's clock. Consul does not tell.
    pub held_for: Option<Duration>,
}

/// The state of an observer: what it has told, and when it looks at the lock again.
///
/// At [`next_look`](Self::next_look), read the lock, and hand the answer to [`handle_answer`](Self::handle_answer). Until
/// then, wait for what the server tells of the lock, and hand that to [`handle_hint`](Self::handle_hint).
///
/// | known | next look |
/// |---|---|
/// | somebody leads | after the interval, and when the lease ends unless it is renewed |
/// | nobody leads | soon, and then ever later, up to the interval |
/// | the server gave no answer | at once, and then as for nobody |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    interval: Duration,
    next: Instant,
    /// When it may look at the earliest, whatever is told.
    earliest: Instant,
    /// The next look was hastened by what was told.
    hastened: bool,
    /// Looks in a row that were hastened and found nothing new.
    in_vain: u32,
    /// Looks in a row that found nobody.
    vacant: u32,
    /// Looks in a row without an answer.
    failures: u32,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Unknown,
    Nobody,
    Term(Fence),
}

impl Observation {
    /// The longest time between two looks, unless another is chosen.
    pub const INTERVAL: Duration = Duration::from_secs(1);
    /// The shortest time between two looks, however much is told.
    pub const SHORTEST: Duration = Duration::from_millis(20);

    /// An observation whose first look is due at once, and each other after `interval` at the latest.
    pub fn new(interval: Duration) -> Self {
        let (next, earliest) = (Instant::default(), Instant::default());
        let interval = interval.max(Self::SHORTEST);
        Self {
            interval,
            next,
            earliest,
            hastened: false,
            in_vain: 0,
            vacant: 0,
            failures: 0,
            told: None,
        }
    }

    /// When to read the lock.
    pub fn next_look(&self) -> Instant {
        self.next
    }

    /// The server told that the lock may have changed, or that it tells from now on.
    ///
    /// Looks that are hastened and find nothing new come ever later, so that a connection that ends as soon as it listens
    /// is not made anew all the time.
    pub fn handle_hint(&mut self, now: Instant) {
        let hastened = now.max(self.earliest);
        if hastened < self.next {
            (self.next, self.hastened) = (hastened, true);
        }
    }

    /// Takes the answer to a look. Returns what is to be told, if it is news: the leader, or [`None`] if nobody leads; the
    /// error if that is not known any more.
    ///
    /// A single look that fails is not told, for a connection may end at any time, and be made anew.
    pub fn handle_answer<E>(
        &mut self,
        now: Instant,
        answer: Result<Option<LockState>, E>,
    ) -> Option<Result<Option<Leader>, E>> {
        let told = match &answer {
            Err(_) => {
                let pause = self.failures.checked_sub(1).map_or(Duration::ZERO, |n| self.pause(n));
                self.failures = self.failures.saturating_add(1);
                self.next = now.after(pause);
                if self.failures == 1 {
                    return None;
                }
                Told::Unknown
            }
            Ok(state) => {
                self.failures = 0;
                match state.as_ref().and_then(leads) {
                    None => {
                        self.next = now.after(self.pause(self.vacant));
                        self.vacant = self.vacant.saturating_add(1);
                        Told::Nobody
                    }
                    Some((term, hold)) => {
                        self.vacant = 0;
                        let ends = hold.expires_in.map(|left| left.max(Self::SHORTEST));
                        self.next = now.after(self.interval.min(ends.unwrap_or(self.interval)));
                        Told::Term(term)
                    }
                }
            }
        };
        let is_news = self.told.replace(told) != Some(told);
        self.in_vain = match (is_news, core::mem::take(&mut self.hastened)) {
            (true, _) => 0,
            (false, hastened) => self.in_vain.saturating_add(hastened.into()),
        };
        self.earliest = now.after(self.pause(self.in_vain));
        is_news.then(|| answer.map(|state| state.and_then(leader)))
    }

    fn pause(&self, nth: u32) -> Duration {
        let doubled = 1_u32.checked_shl(nth).unwrap_or(u32::MAX);
        Self::SHORTEST.saturating_mul(doubled).min(self.interval)
    }
}

fn leads(state: &LockState) -> Option<(Fence, &Hold)> {
    let hold = state.hold.as_ref().filter(|hold| !hold.kept)?;
    Some((state.fence, hold))
}

fn leader(state: LockState) -> Option<Leader> {
    leads(&state)?;
    let Hold { label, held_for, .. } = state.hold?;
    Some(Leader { label, term: state.fence, held_for })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn held(term: u64, left: Duration) -> Result<Option<LockState>, ()> {
        let hold = Hold {
            label: "h".to_string(),
            held_for: Some(SECOND),
            expires_in: Some(left),
            ends_late: false,
            kept: false,
        };
        let fence = Fence::new(term);
        Ok(Some(LockState { name: "n".to_string(), fence, hold: Some(hold) }))
    }

    fn term(told: Option<Result<Option<Leader>, ()>>) -> Option<Option<u64>> {
        told.map(|told| told.expect("known").map(|leader| leader.term.get()))
    }

    #[test]
    fn each_change_is_told_once() {
        let mut observation = Observation::new(SECOND);
        assert_eq!(observation.next_look(), Instant::default());
        let mut look = |answer| term(observation.handle_answer(at(5), answer));
        assert_eq!(look(Ok(None)), Some(None));
        assert_eq!(look(Ok(None)), None);
        assert_eq!(look(held(7, SECOND)), Some(Some(7)));
        assert_eq!(look(held(7, SECOND)), None);
        assert_eq!(look(held(9, SECOND)), Some(Some(9)), "the next term, without a gap");
        let kept = held(9, SECOND).map(|state| {
            state.map(|state| {
                let hold = state.hold.map(|hold| Hold { kept: true, ..hold });
                LockState { hold, ..state }
            })
        });
        assert_eq!(look(kept), Some(None), "nobody has what is kept");
    }

    #[test]
    fn a_lease_is_looked_at_when_it_ends() {
        let mut observation = Observation::new(SECOND);
        observation.handle_answer(at(0), held(7, 30 * SECOND));
        assert_eq!(observation.next_look(), at(1_000));
        observation.handle_answer(at(1_000), held(7, SECOND / 2));
        assert_eq!(observation.next_look(), at(1_500));
        observation.handle_answer(at(1_500), held(7, Duration::from_micros(1)));
        assert_eq!(observation.next_look(), at(1_520));
    }

    #[test]
    fn a_vacant_office_is_looked_at_ever_later() {
        let mut observation = Observation::new(SECOND);
        let mut now = at(0);
        let mut pauses = [0_u64; 8].map(|_| {
            observation.handle_answer(now, Ok::<_, ()>(None));
            let pause = observation.next_look().since(now);
            now = observation.next_look();
            pause.as_millis() as u64
        });
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        observation.handle_answer(now, held(7, 30 * SECOND));
        pauses = [0; 8];
        observation.handle_answer(now, Ok::<_, ()>(None));
        pauses[0] = observation.next_look().since(now).as_millis() as u64;
        assert_eq!(pauses[0], 20, "the next vacancy is a new one");
    }

    #[test]
    fn hints_hasten_a_look_and_do_not_make_it_spin() {
        let mut observation = Observation::new(SECOND);
        observation.handle_answer(at(0), held(7, 30 * SECOND));
        observation.handle_hint(at(1));
        assert_eq!(observation.next_look(), at(20));
        observation.handle_hint(at(100));
        assert_eq!(observation.next_look(), at(20), "a later hint delays nothing");
        observation.handle_answer(at(100), held(7, 30 * SECOND));
        observation.handle_hint(at(200));
        assert_eq!(observation.next_look(), at(200));
    }

    #[test]
    fn hints_in_vain_hasten_ever_less() {
        let mut observation = Observation::new(SECOND);
        observation.handle_answer(at(0), held(7, 30 * SECOND));
        let mut now = at(0);
        let mut pauses = [0_u64; 8].map(|_| {
            observation.handle_hint(now);
            let pause = observation.next_look().since(now);
            now = observation.next_look();
            observation.handle_answer(now, held(7, 30 * SECOND));
            pause.as_millis() as u64
        });
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        observation.handle_answer(now, held(9, 30 * SECOND));
        pauses[0] = observation.next.since(now).as_millis() as u64;
        observation.handle_hint(now);
        pauses[1] = observation.next_look().since(now).as_millis() as u64;
        assert_eq!(pauses[..2], [1_000, 20], "something was new");
    }

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut observation = Observation::new(SECOND);
        observation.handle_answer(at(0), held(7, 30 * SECOND));
        assert_eq!(observation.handle_answer(at(1_000), Err(())), None, "it connects again first");
        assert_eq!(observation.next_look(), at(1_000));
        assert_eq!(observation.handle_answer(at(1_010), Err(())), Some(Err(())));
        assert_eq!(observation.next_look(), at(1_030));
        assert_eq!(observation.handle_answer(at(1_030), Err(())), None);
        assert_eq!(observation.next_look(), at(1_070));
        let told = observation.handle_answer(at(2_000), held(7, 30 * SECOND));
        assert_eq!(term(told), Some(Some(7)), "known again");
        assert_eq!(observation.handle_answer(at(3_000), Err(())), None);
    }

    #[test]
    fn no_interval_makes_it_spin() {
        let mut observation = Observation::new(Duration::ZERO);
        observation.handle_answer(at(0), held(7, Duration::ZERO));
        assert_eq!(observation.next_look(), at(20));
        for _ in 0..100 {
            observation.handle_answer(at(0), Err(()));
        }
        assert_eq!(observation.next_look(), at(20));
    }
}
