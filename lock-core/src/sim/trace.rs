//! Schedules as text for people.

use super::action::Action;
use super::server::Server;
use super::world::World;
use alloc::format;
use alloc::string::String;

/// Does again what led to a state, by the places of the actions in the lists that offered them, and
/// writes down what happens.
pub(super) fn replay<S: Server>(mut world: World<S>, choices: &[u16], settle: bool) -> String {
    world.take_notes();
    let mut text = String::new();
    for choice in choices {
        let actions = world.actions();
        let Some(action) = actions.get(usize::from(*choice)) else { break };
        step(&mut world, action, &mut text);
    }
    if settle && world.violation().is_none() {
        text.push_str("  then the faults stop\n");
        world.settle();
        write_notes(&mut world, &mut text);
    }
    text
}

/// Does an action and writes down what happens.
pub(super) fn step<S: Server>(world: &mut World<S>, action: &Action, text: &mut String) {
    world.apply(action);
    if !matches!(action, Action::Advance(_)) {
        write_notes(world, text);
    }
    world.notes();
}

pub(super) fn write_notes<S: Server>(world: &mut World<S>, text: &mut String) {
    let at = world.elapsed().as_secs_f64();
    for (place, note) in world.notes().into_iter().enumerate() {
        let line = if place == 0 {
            format!("  {at:9.4} s  {note}\n")
        } else {
            format!("                 {note}\n")
        };
        text.push_str(&line);
    }
}
