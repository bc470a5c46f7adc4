//! The backends of the lanes.

use crate::backend::{Backend, Backends, Cut};
use lock_core::{DispatchId, Lane};
use std::collections::BTreeMap;

pub(super) struct Lanes {
    backends: Box<dyn Backends>,
    /// The idle backends.
    idle: BTreeMap<Lane, Box<dyn Backend>>,
    /// The backends that execute a request: one for each lane, or more if the lane was dropped and used
    /// again.
    away: BTreeMap<Lane, Vec<Away>>,
    /// Number of these that do not wait at the server.
    asking: usize,
}

/// A backend that executes a request.
struct Away {
    id: DispatchId,
    /// True if it waits at the server.
    waits: bool,
    /// True if its lane was dropped meanwhile.
    dropped: bool,
    cut: Option<Cut>,
}

impl Lanes {
    pub(super) fn new(backends: Box<dyn Backends>) -> Self {
        Self { backends, idle: BTreeMap::new(), away: BTreeMap::new(), asking: 0 }
    }

    /// Takes the lane's backend, or a new one, to execute a request. `for_waits` is true if the lane is there
    /// to wait.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        id: DispatchId,
        waits: bool,
        for_waits: bool,
    ) -> Option<Box<dyn Backend>> {
        let backend = self.idle.remove(&lane).or_else(|| self.backends.backend(for_waits))?;
        let cut = if waits { backend.cut() } else { None };
        self.asking += usize::from(!waits);
        self.away.entry(lane).or_default().push(Away { id, waits, dropped: false, cut });
        Some(backend)
    }

    /// Puts a backend back. If it is of no more use, returns it: the caller drops it, which may take a
    /// moment.
    pub(super) fn give_back(
        &mut self,
        lane: Lane,
        id: DispatchId,
        backend: Box<dyn Backend>,
    ) -> Option<Box<dyn Backend>> {
        let away = self.returned(lane, id);
        if away.is_none_or(|away| away.dropped) || !backend.lasts() {
            return Some(backend);
        }
        self.idle.insert(lane, backend)
    }

    fn returned(&mut self, lane: Lane, id: DispatchId) -> Option<Away> {
        let all = self.away.get_mut(&lane)?;
        let away = all.swap_remove(all.iter().position(|away| away.id == id)?);
        if all.is_empty() {
            self.away.remove(&lane);
        }
        self.asking -= usize::from(!away.waits);
        Some(away)
    }

    /// Drops a lane. A backend that executes a command is cut off if possible, and dropped when it comes
    /// back. An idle one is returned, for the caller to drop.
    pub(super) fn drop_lane(&mut self, lane: Lane) -> Option<Box<dyn Backend>> {
        self.away.get_mut(&lane).into_iter().flatten().for_each(Away::end);
        self.idle.remove(&lane)
    }

    /// Drops all lanes.
    pub(super) fn drop_all(&mut self) -> Vec<Box<dyn Backend>> {
        self.away.values_mut().flatten().for_each(Away::end);
        std::mem::take(&mut self.idle).into_values().collect()
    }

    /// True if there may be several backends.
    pub(super) fn are_many(&self) -> bool {
        self.backends.are_many()
    }

    /// True if a request is in flight that does not wait at the server.
    pub(super) fn is_asking(&self) -> bool {
        self.asking > 0
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
