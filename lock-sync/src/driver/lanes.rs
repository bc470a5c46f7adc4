//! The backends, one for each lane that has one.

use crate::backend::{Backend, Backends, Cut};
use lock_core::{DispatchId, Lane};
use std::collections::BTreeMap;

pub(super) struct Lanes<F: Backends> {
    backends: F,
    /// Those that nobody uses just now.
    idle: BTreeMap<Lane, F::Backend>,
    away: BTreeMap<DispatchId, Away>,
}

/// A backend that is carrying out a command.
struct Away {
    lane: Lane,
    /// It waits at the server.
    waits: bool,
    /// Its lane was dropped meanwhile.
    dropped: bool,
    cut: Option<Cut>,
}

impl<F: Backends> Lanes<F> {
    pub(super) fn new(backends: F) -> Self {
        Self { backends, idle: BTreeMap::new(), away: BTreeMap::new() }
    }

    /// Takes the lane's backend away to carry out a command, or a new one if the lane has none;
    /// `for_waits` if the lane is there to wait.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        id: DispatchId,
        waits: bool,
        for_waits: bool,
    ) -> Option<F::Backend> {
        let backend = self.idle.remove(&lane).or_else(|| self.backends.backend(for_waits))?;
        let cut = if waits { backend.cut() } else { None };
        self.away.insert(id, Away { lane, waits, dropped: false, cut });
        Some(backend)
    }

    /// Takes it back, unless it is of no more use: then it is the caller's to drop, which may take a
    /// moment.
    pub(super) fn give_back(&mut self, id: DispatchId, backend: F::Backend) -> Option<F::Backend> {
        let away = self.away.remove(&id)?;
        if away.dropped || !backend.lasts() {
            return Some(backend);
        }
        self.idle.insert(away.lane, backend)
    }

    /// Drops a lane. A backend that is away is cut off where that is possible, and dropped when it
    /// comes back; one that is not is the caller's to drop.
    pub(super) fn drop_lane(&mut self, lane: Lane) -> Option<F::Backend> {
        for away in self.away.values_mut().filter(|away| away.lane == lane) {
            away.end();
        }
        self.idle.remove(&lane)
    }

    /// Drops them all.
    pub(super) fn drop_all(&mut self) -> Vec<F::Backend> {
        self.away.values_mut().for_each(Away::end);
        std::mem::take(&mut self.idle).into_values().collect()
    }

    /// Whether a command is under way that does not wait at the server.
    pub(super) fn is_asking(&self) -> bool {
        self.away.values().any(|away| !away.waits)
    }
}

impl Away {
    fn end(&mut self) {
        self.dropped = true;
        if let Some(cut) = self.cut.take() {
            cut();
        }
    }
}
