//! The record of who led when: a file to which each member adds a line while it leads.

pub(super) use lock_tests::history::now;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// The record as a member writes it.
pub(super) struct Pen {
    file: File,
    number: usize,
}

impl Pen {
    pub(super) fn new(path: &Path, number: usize) -> Self {
        let file = OpenOptions::new().append(true).open(path).expect("the trial made it");
        Self { file, number }
    }

    /// Writes down that this member led at the time `at`. Each line is added as a whole.
    pub(super) fn led(&mut self, term: u64, at: u64) {
        let line = format!("{} {term} {at}\n", self.number);
        self.file.write_all(line.as_bytes()).expect("written");
    }
}

/// A term: from the first moment to the last at which its member led.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) member: usize,
    pub(super) from: u64,
    pub(super) until: u64,
}

/// The record as the trial reads it.
pub(super) struct Record {
    file: File,
    /// A line that is not yet whole.
    rest: String,
    terms: BTreeMap<u64, Term>,
    /// The moments from which on lines of a term do not count.
    ended: BTreeMap<u64, u64>,
}

impl Record {
    pub(super) fn new(path: &Path) -> Self {
        let file = OpenOptions::new().create_new(true).append(true).read(true).open(path);
        Self {
            file: file.expect("a file"),
            rest: String::new(),
            terms: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// The latest term that is known now, with its number.
    pub(super) fn latest(&mut self) -> Option<(u64, Term)> {
        self.file.read_to_string(&mut self.rest).expect("read");
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        for line in lines.lines() {
            let numbers: Vec<u64> =
                line.split(' ').map(|word| word.parse().expect("a number")).collect();
            let [member, number, at] = numbers[..] else { panic!("torn: {line:?}") };
            let new = Term { member: member as usize, from: at, until: at };
            let term = self.terms.entry(number).or_insert(new);
            assert_eq!(term.member, member as usize, "term {number} has two leaders");
            (term.from, term.until) = (term.from.min(at), term.until.max(at));
        }
        self.terms.last_key_value().map(|(number, term)| (*number, *term))
    }

    /// Lines of this term from `at` on do not count.
    pub(super) fn ended(&mut self, term: u64, at: u64) {
        self.ended.insert(term, at);
    }

    /// Checks that each term began after the last moment of all terms with lower numbers. Returns the number of terms.
    #[track_caller]
    pub(super) fn check(&mut self) -> usize {
        self.latest();
        let mut before: Option<(u64, Term)> = None;
        for (number, term) in &self.terms {
            if let Some((earlier, last)) = before {
                let ended = self.ended.get(&earlier).copied().unwrap_or(u64::MAX);
                let until = last.until.min(ended);
                let overlap = until.saturating_sub(term.from);
                assert!(
                    until < term.from,
                    "member {} in term {earlier} and member {} in term {number} led at once, or their terms fell: by {:?}",
                    last.member,
                    term.member,
                    Duration::from_nanos(overlap),
                );
            }
            before = Some((*number, *term));
        }
        self.terms.len()
    }
}
