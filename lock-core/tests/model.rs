//! quick
#![cfg(feature = "sim")]
use lock_core::sim::*;
use lock_core::table::Table;
use std::time::Instant as I;

fn world(f: impl FnOnce(&mut Scope)) -> World<sim_t> {
    let mut s = Scope::small();
    f(&mut s);
    make(s)
}
#[allow(non_camel_case_types)]
type sim_t = table::FakeTable;
fn make(s: Scope) -> World<sim_t> {
    World::new(table::FakeTable::new().silent(), Table::new(s.timing.ttl(), "c"), s)
}

#[test]
fn bfs() {
    for (what, f) in [
        ("1c2a", (|s: &mut Scope| { s.clients.pop(); s.acquires=2; }) as fn(&mut Scope)),
        ("1c ghost crash", |s| { s.clients.pop(); s.faults.ghosts=2; s.faults.client_crashes=1; s.faults.duplicates=1; }),
        ("2c nocancel", |s| { s.cancels=false; }),
        ("2c try", |s| { s.cancels=false; s.wishes=[Wish::TRY].into(); }),
    ] {
        let t = I::now();
        let found = explore( world(f), 1_500_000, 64);
        println!("{what}: {found} {:?} cov {:?}", t.elapsed(), found.coverage);
    }
}
#[test]
fn rnd() {
    let t = I::now();
    let mut steps = 0;
    let mut cov = Coverage::default();
    let mut bad = 0;
    for seed in 0..5000 {
        let script = random::script(seed, 150);
        let w = random::walk(make, &script);
        steps += w.steps;
        cov.merge(w.coverage);
        if let Some(v) = w.violation {
            bad += 1;
            if bad < 4 {
                println!("seed {seed}: {v}\n{}", random::describe(make, &script));
            }
        }
    }
    println!("{steps} steps {:?} bad {bad} missing {:?}", t.elapsed(), cov.missing());
}
