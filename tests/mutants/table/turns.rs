/// Bugs in the order of waiters.
const OF_TURNS: &[Mutant] = &[
    Mutant {
        name: "a waiter does not say which ticket it has",
        file: "contention/line.rs",
        after: "pub(super) fn turn(",
        good: "Turn::Of(ticket)",
        bad: "Turn::Of(None)",
        shown_by: Shown::TableInTurns,
        check: "Turns",
    },
    Mutant {
        name: "a waiter takes what is free out of its turn",
        file: "contention/line.rs",
        after: "pub(super) fn turn(",
        good: "Turn::Of(ticket)",
        bad: "Turn::Loose(ticket)",
        shown_by: Shown::TableInTurns,
        check: "Turns",
    },
    Mutant {
        name: "a claim that waited for the row takes it out of its turn",
        file: "sim/table/row.rs",
        after: "fn is_turn_of(",
        good: "now.after(LATE) < self.expires || ahead < 1 << graces.min(62)",
        bad: "now < self.expires || ahead < 1 << graces.min(62)",
        shown_by: Shown::TableInTurns,
        check: "Turns",
    },
    Mutant {
        name: "a waiter takes the place of the next for its own",
        file: "contention/line.rs",
        after: "pub(super) fn turn(",
        good: "self.place.map(|place| place.ticket)",
        bad: "self.place.map(|place| place.ticket - place.ahead)",
        shown_by: Shown::TableInTurnsThatTells,
        check: "Turns",
    },
];
