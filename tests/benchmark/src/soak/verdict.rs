//! What is a failure.

use crate::load::PATIENCE;
use crate::sample::Sample;
use std::process::ExitStatus;
use std::time::Duration;

pub(crate) const MIB: f64 = (1 << 20) as f64;
/// Heap and stacks may grow by so much from the second quarter to the last, or by a tenth.
const MORE_MEMORY: f64 = 4.0 * MIB;
/// The fewest descriptors or threads of a quarter may grow by so many. Connections that wait come and go.
const MORE: u64 = 2;

/// A process that has ended.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
    pub(crate) ended: ExitStatus,
}

impl Run {
    /// What is wrong with it, each in a line.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("{}: {text}", self.name));
        if !self.ended.success() {
            fault(format!("the process did not end well: {}", self.ended));
        }
        let [second, last] = [1, 3].map(|at| quarter(&self.samples, at));
        let Some(end) = last.last().filter(|_| !second.is_empty()) else {
            fault("there are not enough samples".to_string());
            return faults;
        };
        let [before, after] = [second, last].map(|part| mean(part, |sample| sample.anonymous));
        let more = after - before;
        if more > MORE_MEMORY && more > before / 10.0 {
            let (more, before) = (more / MIB, before / MIB);
            fault(format!("heap and stacks grew by {more:.1} MiB, from {before:.1}"));
        }
        let descriptors: fn(&Sample) -> u64 = |sample| sample.descriptors;
        for (what, figure) in [("descriptors", descriptors), ("threads", |sample| sample.threads)] {
            let [before, after] = [second, last].map(|part| part.iter().map(figure).min());
            if after > before.map(|before| before + MORE) {
                fault(format!(
                    "at least {} {what}, before {}",
                    after.unwrap_or_default(),
                    before.unwrap_or_default()
                ));
            }
        }
        if end.lost > 0 {
            fault(format!("{} locks were lost", end.lost));
        }
        if end.left_out > 0 {
            fault(format!("{} waiters never got their lock", end.left_out));
        }
        let longest = Duration::from_millis(end.longest_wait);
        if longest > PATIENCE {
            fault(format!("a waiter waited for {longest:.0?}"));
        }
        faults
    }
}

/// A quarter of the samples, from 0.
pub(crate) fn quarter(samples: &[Sample], at: usize) -> &[Sample] {
    &samples[samples.len() * at / 4..samples.len() * (at + 1) / 4]
}

pub(crate) fn mean(samples: &[Sample], figure: fn(&Sample) -> u64) -> f64 {
    samples.iter().map(figure).sum::<u64>() as f64 / samples.len().max(1) as f64
}

/// The least and the greatest.
pub(crate) fn range(samples: &[Sample], figure: fn(&Sample) -> u64) -> String {
    let [least, most] = [samples.iter().map(figure).min(), samples.iter().map(figure).max()]
        .map(Option::unwrap_or_default);
    format!("{least} to {most}")
}
