//! Random schedules from a script of bytes: a seed makes the bytes, or a fuzzer does.
//!
//! The first bytes of a script choose the world (clocks, clients, locks, faults) and how likely
//! each kind of action is, so that each schedule has its own mix of faults: a mix of everything
//! all the time rarely gets far (Groce et al., *Swarm testing*, 2012). The rest chooses the actions,
//! two bytes for each. Any bytes are a schedule, and shorter scripts are shorter schedules.

use super::action::Action;
use super::clock::{Clock, Rate};
use super::coverage::Coverage;
use super::invariants::Violation;
use super::scope::{Faults, Scope, Wish};
use super::server::Server;
use super::trace;
use super::world::World;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A schedule's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// How many actions were done.
    pub steps: usize,
    /// Real time that passed in the world.
    pub elapsed: Duration,
    /// What was seen.
    pub coverage: Coverage,
    /// What was found wrong.
    pub violation: Option<Violation>,
    /// Of the last state.
    pub fingerprint: u128,
}

/// The script of a seed, with up to `actions` actions.
pub fn script(seed: u64, actions: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(HEAD + actions * 2 + 8);
    while bytes.len() < HEAD + actions * 2 {
        // SplitMix64, as the engine's jitter.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(HEAD + actions * 2);
    bytes
}

/// How many bytes choose the world and the mix.
const HEAD: usize = 40;

/// Runs a script to its end and lets the world come to rest. `make` makes the world of the scope
/// that the script chose, and may change the scope before.
pub fn walk<S: Server>(make: impl FnOnce(Scope) -> World<S>, script: &[u8]) -> Walked {
    run(make, script, None)
}

/// The same, as text for people.
pub fn describe<S: Server>(make: impl FnOnce(Scope) -> World<S>, script: &[u8]) -> String {
    let mut text = String::new();
    run(make, script, Some(&mut text));
    text
}

fn run<S: Server>(
    make: impl FnOnce(Scope) -> World<S>,
    script: &[u8],
    mut text: Option<&mut String>,
) -> Walked {
    let mut script = Script { bytes: script, at: 0 };
    let scope = scope(&mut script);
    let mix: [u8; KINDS] = core::array::from_fn(|_| script.byte());
    script.at = HEAD;
    let mut world = make(scope);
    if text.is_some() {
        world.take_notes();
    }
    let mut steps = 0;
    while let Some(number) = script.number() {
        let actions = world.actions();
        let total: u32 = actions.iter().map(|action| weight(action, &mix)).sum();
        if total == 0 {
            break;
        }
        let mut point = (u32::from(number) * total) >> 16;
        let chosen = actions.iter().find(|action| {
            let weight = weight(action, &mix);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        });
        let Some(action) = chosen else { break };
        match &mut text {
            Some(text) => trace::step(&mut world, action, text),
            None => world.apply(action),
        }
        steps += 1;
    }
    if world.violation().is_none() {
        world.settle();
        if let Some(text) = &mut text {
            text.push_str("  then the faults stop\n");
            trace::write_notes(&mut world, text);
        }
    }
    if let (Some(text), Some(violation)) = (text, world.violation()) {
        text.push_str(&alloc::format!("  {violation}\n"));
    }
    Walked {
        steps,
        elapsed: world.elapsed(),
        coverage: world.coverage(),
        violation: world.violation().cloned(),
        fingerprint: world.fingerprint(),
    }
}

/// How many kinds of actions there are that a mix weighs.
const KINDS: usize = 12;

/// How likely an action is. What goes well is always possible; what goes wrong is, in each schedule,
/// for each kind: never, rare, or common.
fn weight(action: &Action, mix: &[u8; KINDS]) -> u32 {
    let fault = |kind: usize| match mix[kind] % 4 {
        0 | 1 => 0,
        2 => 1,
        _ => 6,
    };
    let benign = |kind: usize, usual: u32| match mix[kind] % 4 {
        0 => usual / 4,
        1 => usual * 4,
        _ => usual,
    };
    match action {
        Action::Acquire(..) => benign(0, 8),
        Action::Release(..) => benign(1, 4),
        Action::Run(_) => benign(2, 24),
        Action::Execute(_) => benign(3, 24),
        Action::Deliver(_) => benign(4, 24),
        Action::Advance(_) => benign(5, 12),
        Action::Resume(_) => 3,
        Action::RestartServer => 8,
        Action::Suspend(_) => fault(6),
        Action::Lose(_) | Action::Duplicate(_) => fault(7),
        Action::Fail(..) => fault(8),
        Action::Read(_) => fault(9),
        Action::CrashClient(_) | Action::CrashServer => fault(10),
        Action::StepServer | Action::SetServerBack | Action::Move(_) => 2,
        Action::Kill(_) => fault(10),
        Action::Hint(..) => fault(11),
        Action::Pin(..) => 6,
        Action::End(_, true) => 2,
        Action::End(_, false) => 1,
    }
}

/// The world that a script's first bytes choose.
fn scope(script: &mut Script<'_>) -> Scope {
    let mut scope = Scope::small();
    let rate = |byte: u8| match byte % 4 {
        0 => Rate::TRUE,
        1 | 2 => Rate::SLOW,
        _ => Rate::FAST,
    };
    let clients = 2 + usize::from(script.byte().is_multiple_of(3));
    scope.clients = (0..clients as u64)
        .map(|client| Clock::new(rate(script.byte()), Duration::from_secs(client * 1_000)))
        .collect();
    scope.server = match script.byte() % 4 {
        0 => Clock::new(Rate::TRUE, Duration::from_secs(500)),
        1 => Clock::new(Rate::SLOW, Duration::from_secs(500)),
        _ => Clock::new(Rate::FAST, Duration::from_secs(500)),
    };
    scope.names = 1 + usize::from(script.byte().is_multiple_of(4));
    scope.acquires = 2 + script.byte() % 3;
    scope.in_flight = 1 + usize::from(script.byte().is_multiple_of(4));
    scope.wishes = Vec::from([Wish::WAIT, Wish::WAIT]);
    let wishes = script.byte();
    match wishes % 4 {
        0 => scope.wishes.push(Wish::TRY),
        1 => scope.wishes.push(Wish::within(Duration::from_secs(3))),
        _ => {}
    }
    // Locks with a TTL of their own: twice the usual one, or the shortest that leaves a request its time.
    let own = wishes / 4 % 8;
    if matches!(own, 5 | 6) {
        scope.wishes.push(Wish::WAIT.lasting(scope.timing.ttl() * 2));
    }
    if matches!(own, 6 | 7) {
        scope.wishes.push(Wish::WAIT.lasting(Duration::from_secs(4)));
    }
    scope.eager = script.byte().is_multiple_of(2);
    let mut up_to = |most: u8| script.byte() % (most + 1);
    scope.faults = Faults {
        ghosts: up_to(4),
        losses: up_to(4),
        duplicates: up_to(3),
        failures: up_to(6),
        stale_reads: up_to(3),
        suspends: up_to(4),
        client_crashes: up_to(2),
        server_crashes: up_to(2),
        hints: up_to(2),
        kills: 0,
        clock_steps: 0,
        set_backs: 0,
    };
    scope.grid = None;
    scope.horizon = Some(Instant::from_nanos(0).after(scope.timing.ttl() * 20));
    scope
}

/// Bytes to choose by; zeros when they are used up.
struct Script<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or_default()
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}
