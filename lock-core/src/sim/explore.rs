//! Exhaustive search, breadth first: the first violation found has the shortest trace.

use super::coverage::Coverage;
use super::invariants::Violation;
use super::server::Server;
use super::trace;
use super::world::World;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How many different states were met.
    pub states: usize,
    /// How many actions were tried.
    pub transitions: usize,
    /// The greatest number of actions from the beginning to a state.
    pub depth: usize,
    /// Whether every state was met that there is.
    pub exhausted: bool,
    /// What was seen.
    pub coverage: Coverage,
    /// The first violation, with the shortest way to it.
    pub violation: Option<(Violation, String)>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, exhausted, .. } = self;
        let all = if *exhausted { "exhausted" } else { "not exhausted" };
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {all}")?;
        match &self.violation {
            Some((violation, trace)) => write!(f, "\n{trace}  {violation}"),
            None => Ok(()),
        }
    }
}

/// Meets every state that can be reached from `start`, `limit` of them at most.
///
/// Each state without a successor, and one in `settle_every` others, is also let come to rest.
/// Zero: none of the others.
pub fn explore<S: Server>(start: World<S>, limit: usize, settle_every: u128) -> Found {
    let mut met = BTreeSet::from([start.fingerprint()]);
    // How each state was reached: from which, by which of its actions.
    let mut ways: Vec<(u32, u16)> = Vec::from([(0, 0)]);
    let mut next = VecDeque::from([(start.clone(), start.fingerprint(), 0_u32, 0_usize)]);
    let mut found = Found {
        states: 1,
        transitions: 0,
        depth: 0,
        exhausted: false,
        coverage: Coverage::default(),
        violation: None,
    };
    while let Some((world, this, at, depth)) = next.pop_front() {
        found.depth = depth;
        let actions = world.actions();
        for (choice, action) in actions.iter().enumerate() {
            found.transitions += 1;
            let mut successor = world.clone();
            successor.apply(action);
            found.coverage.merge(successor.coverage());
            let fingerprint = successor.fingerprint();
            let violated = successor.violation().cloned();
            if !met.insert(fingerprint) {
                continue;
            }
            let place = u32::try_from(ways.len()).unwrap_or(u32::MAX);
            ways.push((at, u16::try_from(choice).unwrap_or(u16::MAX)));
            if let Some(violation) = violated {
                let trace = trace::replay(start, &choices(&ways, place), false);
                found.violation = Some((violation, trace));
                found.states = met.len();
                return found;
            }
            next.push_back((successor, fingerprint, place, depth + 1));
        }
        let chosen = settle_every > 0 && this.is_multiple_of(settle_every);
        if actions.is_empty() || chosen {
            let mut rest = world;
            rest.settle();
            if let Some(violation) = rest.violation() {
                let trace = trace::replay(start, &choices(&ways, at), true);
                found.violation = Some((violation.clone(), trace));
                found.states = met.len();
                return found;
            }
        }
        found.states = met.len();
        if met.len() >= limit {
            return found;
        }
    }
    found.exhausted = true;
    found
}

/// The choices on the way to a state.
fn choices(ways: &[(u32, u16)], mut place: u32) -> Vec<u16> {
    let mut choices = Vec::new();
    while place > 0 {
        let (from, choice) = ways[place as usize];
        choices.push(choice);
        place = from;
    }
    choices.reverse();
    choices
}
