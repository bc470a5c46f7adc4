//! The names of the metrics, and what they mean. `docs/metrics.md` has them for people.

use metrics::{Key, Label, Level, Metadata, Unit, with_recorder};

pub(super) const ACQUIRES: &str = "lock_acquires_total";
pub(super) const ACQUIRE_DURATION: &str = "lock_acquire_duration_seconds";
pub(super) const HELD: &str = "lock_held";
pub(super) const HOLD_DURATION: &str = "lock_hold_duration_seconds";
pub(super) const LOST: &str = "lock_lost_total";
const RENEWALS: &str = "lock_renewals_total";
const RENEWAL_AGE: &str = "lock_renewal_age_seconds";
const RENEWAL_MARGIN: &str = "lock_renewal_margin_seconds";
const DROPPED: &str = "lock_metrics_dropped_total";

static RENEWED_LABELS: [Label; 1] = [Label::from_static_parts("outcome", "renewed")];
static FAILED_LABELS: [Label; 1] = [Label::from_static_parts("outcome", "failed")];

// Those of a renewal are made once, so that recording one allocates nothing.
pub(super) static RENEWALS_RENEWED: Key = Key::from_static_parts(RENEWALS, &RENEWED_LABELS);
pub(super) static RENEWALS_FAILED: Key = Key::from_static_parts(RENEWALS, &FAILED_LABELS);
pub(super) static AGE: Key = Key::from_static_name(RENEWAL_AGE);
pub(super) static MARGIN: Key = Key::from_static_name(RENEWAL_MARGIN);
pub(super) static MISSED: Key = Key::from_static_name(DROPPED);

pub(super) static METADATA: Metadata<'static> = Metadata::new("lock", Level::INFO, Some("lock"));

/// Tells the recorder what the metrics mean, and their units.
pub fn describe() {
    let counters = [
        (ACQUIRES, "Attempts to acquire a lock that have ended, by outcome."),
        (LOST, "Locks that were lost while they were held, by reason."),
        (RENEWALS, "Renewals of leases, by outcome."),
        (DROPPED, "Renewals and losses that were not recorded, because the recorder was too slow."),
    ];
    let histograms = [
        (ACQUIRE_DURATION, "Time from the call to the end of an attempt, by outcome."),
        (HOLD_DURATION, "Time from a grant to its release or loss."),
        (RENEWAL_AGE, "Time since the last renewal or the grant, when a renewal is confirmed."),
        (RENEWAL_MARGIN, "Time that was left until the loss, when a renewal is confirmed."),
    ];
    super::recorded::contained(|| {
        with_recorder(|recorder| {
            for (name, text) in counters {
                recorder.describe_counter(name.into(), Some(Unit::Count), text.into());
            }
            for (name, text) in histograms {
                recorder.describe_histogram(name.into(), Some(Unit::Seconds), text.into());
            }
            let text = "Locks that are held.";
            recorder.describe_gauge(HELD.into(), Some(Unit::Count), text.into());
        });
    });
}
