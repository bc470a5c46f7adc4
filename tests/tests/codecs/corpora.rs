//! The fuzz targets without a fuzzer: their committed inputs, and mutations of these, the same in every run.
//!
//! `LOCK_FUZZ_SCALE=100` runs so many times as many, `LOCK_FUZZ_SEED=2` others.

use lock_fuzz::{ALL, Target};
use std::path::Path;

/// The bytes of a corpus that are mutated. Longer inputs are cut.
const LONGEST: usize = 400;

#[test]
fn every_committed_input_passes_its_target() {
    for target in ALL {
        for input in corpus(target.0) {
            run(target, &input);
        }
    }
}

#[test]
fn mutated_inputs_pass_every_target() {
    let number = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    };
    let (scale, seed) = (number("LOCK_FUZZ_SCALE", 1), number("LOCK_FUZZ_SEED", 1));
    std::thread::scope(|scope| {
        for (at, target) in (0_u64..).zip(ALL) {
            scope.spawn(move || {
                let mut mutator = Mutator { inputs: corpus(target.0), state: seed * 1_000 + at };
                for _ in 0..scale * runs(target.0) {
                    run(target, &mutator.next());
                }
            });
        }
    });
}

/// How many inputs take a few seconds at most.
fn runs(name: &str) -> u64 {
    match name {
        // Real drivers, threads and sockets, and some wait for a renewal.
        "consul_answers" => 100,
        // Thousands of steps each.
        name if name.starts_with("schedules") => 1_000,
        "settings" => 20_000,
        _ => 100_000,
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no inputs");
    paths.iter().map(|path| std::fs::read(path).expect("an input")).collect()
}

fn run((name, target): Target, input: &[u8]) {
    let failed = std::panic::catch_unwind(|| target(input)).is_err();
    assert!(!failed, "{name} fails on {input:?}");
}

/// Makes inputs from those of a corpus.
struct Mutator {
    inputs: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    fn next(&mut self) -> Vec<u8> {
        let mut input = self.input();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn input(&mut self) -> Vec<u8> {
        let at = self.below(self.inputs.len());
        self.inputs[at].clone()
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let byte = self.below(256) as u8;
        match self.below(7) {
            0 => input.insert(at, byte),
            1 => input.truncate(at),
            2 => {
                let other = self.input();
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            3 => {
                let copied: Vec<u8> = input[at..].iter().take(8).copied().collect();
                input.splice(at..at, copied);
            }
            _ if at == input.len() => input.push(byte),
            4 => drop(input.remove(at)),
            // Small steps: most first bytes choose something.
            5 => input[at] = input[at].wrapping_add(1 + byte % 4),
            _ => input[at] = byte,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
