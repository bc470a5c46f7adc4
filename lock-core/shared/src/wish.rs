//! The wish for a lock, before a driver asks for it. The drivers' builders are made of it.

use crate::check::Check;
use crate::engine::Engine;
use lock_core::config::{Busy, Error, Progress, Wait, WithLockError};
use lock_core::{
    ClaimError, Holder, Instant, LockId, LockName, Mode, NotAcquired, Timing, Wanted, Which,
};
use std::sync::Arc;
use std::time::Duration;

/// The wish for a lock.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The lock's name, or the semaphore's.
    pub name: LockName,
    /// The permits of the semaphore, if one of them is wanted.
    pub permits: Vec<LockName>,
    /// The locks that are wanted, too: all or none.
    pub and: Vec<LockName>,
    /// The mode in which the lock is wanted.
    pub mode: Mode,
    /// The longest wait.
    pub wait: Wait,
    /// How long after its grant the lock stays taken, though it is released.
    pub keep: Option<Duration>,
    /// The TTL, if it is not that of all locks.
    pub ttl: Option<Duration>,
    /// The label, if it is not that of all locks.
    pub label: Option<String>,
    /// The same as the engine wants them, once they were checked.
    timing: Option<Timing>,
    holder: Option<Arc<str>>,
    /// Metrics have its name, once it was checked.
    recorded_by_name: bool,
}

impl Wish {
    /// Wants `name` exclusively, as long as it takes.
    pub fn new<N: TryInto<LockName, Error: Into<Error>>>(name: N) -> Result<Self, Error> {
        let name = name.try_into().map_err(Into::into)?;
        Ok(Self {
            name,
            permits: Vec::new(),
            and: Vec::new(),
            mode: Mode::Exclusive,
            wait: Wait::Forever,
            keep: None,
            ttl: None,
            label: None,
            timing: None,
            holder: None,
            recorded_by_name: false,
        })
    }

    /// The same for one of so many permits.
    pub fn of_permits(self, count: u32) -> Result<Self, Error> {
        Ok(Self { permits: self.name.permits(count)?, ..self })
    }

    /// The same for another lock besides.
    pub fn and<N: TryInto<LockName, Error: Into<Error>>>(mut self, name: N) -> Result<Self, Error> {
        self.and.push(name.try_into().map_err(Into::into)?);
        Ok(self)
    }

    /// Checks that there are such locks where they are kept.
    pub fn checked(self, check: &Check) -> Result<Self, ClaimError> {
        self.check_names(check)?;
        self.keep.map_or(Ok(()), |keep| check.keep(keep))?;
        let timing = self.ttl.map(|ttl| check.timing(ttl)).transpose()?;
        let holder = self.label.as_ref().map(|label| check.holder(label));
        let recorded_by_name = check.has_metrics_by_name();
        Ok(Self { timing, holder, recorded_by_name, ..self })
    }

    /// The name that metrics have of it, if any.
    pub fn recorded_as(&self) -> Option<&LockName> {
        self.recorded_by_name.then_some(&self.name)
    }

    fn check_names(&self, check: &Check) -> Result<(), ClaimError> {
        let one = self.permits.is_empty() && self.and.is_empty();
        if !one && (self.mode == Mode::Shared || self.permits.is_empty() == self.and.is_empty()) {
            return Err(ClaimError::Combined);
        }
        let name = self.permits.is_empty().then_some(&self.name);
        name.into_iter()
            .chain(&self.permits)
            .chain(&self.and)
            .try_for_each(|name| check.name(name, self.mode))
    }

    /// Wants it of the engine, until `give_up`.
    pub fn begin(&self, engine: &mut Engine, now: Instant, give_up: Option<Instant>) -> LockId {
        let which = match (&self.permits[..], &self.and[..]) {
            ([], []) => Which::One(self.name.clone()),
            ([], and) => Which::All([std::slice::from_ref(&self.name), and].concat()),
            (permits, _) => Which::Any(permits.to_vec()),
        };
        let (mode, once, timing) = (self.mode, self.once(), self.timing);
        let wanted = Wanted { mode, once, give_up, timing, label: self.holder.clone() };
        engine.want(now, which, wanted)
    }

    /// True if the first "busy" ends it.
    pub fn once(&self) -> bool {
        self.wait == Wait::Never
    }

    /// The end of a wait that begins `now`, if it has one.
    pub fn give_up(&self, now: Instant) -> Option<Instant> {
        match self.wait {
            Wait::Never => Some(now),
            Wait::For(limit) => Some(now.after(limit)),
            Wait::Forever => None,
        }
    }

    /// The error of an attempt that ended without the lock: of several at once, without the lock `of`.
    pub fn denied(&self, why: NotAcquired, of: Option<LockName>) -> Error {
        let name = of.unwrap_or_else(|| self.name.clone());
        match why {
            NotAcquired::Withheld => Busy::withheld(name).into(),
            NotAcquired::Busy(holder) | NotAcquired::TimedOut(holder) => {
                Busy::new(name, holder).into()
            }
            NotAcquired::Failed(failure) => failure.into(),
            NotAcquired::Refused(error) => error.into(),
            other => Error::Unavailable(format!("{other:?}")),
        }
    }
}

/// What a caller that waits for the lock is told.
pub fn waiting(name: LockName, holder: Option<Holder>, withheld: bool) -> Progress {
    Progress::Busy(if withheld { Busy::withheld(name) } else { Busy::new(name, holder) })
}

/// The same wish with another setting. The error of a name that is not one stays.
pub fn with(wish: Result<Wish, Error>, set: impl FnOnce(&mut Wish)) -> Result<Wish, Error> {
    wish.map(|mut wish| {
        set(&mut wish);
        wish
    })
}

/// [`None`] if someone else has the lock, which is no error for a caller that only tries.
pub fn unless_busy<T>(acquired: Result<T, Error>) -> Result<Option<T>, Error> {
    match acquired {
        Ok(guard) => Ok(Some(guard)),
        Err(Error::Busy(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for a lock that is released after the work under it.
pub fn done_unless_busy<T>(
    done: Result<T, WithLockError<T>>,
) -> Result<Option<T>, WithLockError<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(WithLockError::Acquire(Error::Busy(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;

    #[test]
    fn permits_and_more_locks_go_with_nothing_else() {
        let plan = Plan::at(Config::sqlite("/nowhere")).map(|(_, plan)| plan).expect("a plan");
        let wish = || Wish::new("a").expect("a name");
        let shared = |wish| Wish { mode: Mode::Shared, ..wish };
        let permits = || wish().of_permits(2).expect("permits");
        let two = || wish().and("b").expect("a name");
        for (wish, fits) in [
            (wish(), true),
            (shared(wish()), true),
            (permits(), true),
            (two(), true),
            (shared(permits()), false),
            (shared(two()), false),
            (permits().and("b").expect("a name"), false),
        ] {
            let told = format!("{wish:?}");
            let checked = wish.check_names(&plan.check());
            assert_eq!(matches!(checked, Err(ClaimError::Combined)), !fits, "{told}: {checked:?}");
        }
    }

    /// Not each place has a lock of each name.
    #[cfg(feature = "postgres")]
    #[test]
    fn each_name_is_checked() {
        let config = Config::from_url("postgres://h/d?protocol=advisory&keys=int").expect("good");
        let plan = Plan::at(config).map(|(_, plan)| plan).expect("a plan");
        let wish = |name| Wish::new(name).expect("a name");
        let two = |first, second| wish(first).and(second).expect("a name");
        for (wish, fits) in [
            (wish("1"), true),
            (wish("one"), false),
            (two("1", "2"), true),
            (two("one", "2"), false),
            (two("1", "two"), false),
            (wish("1").of_permits(2).expect("permits"), false),
        ] {
            assert_eq!(wish.check_names(&plan.check()).is_ok(), fits, "{wish:?}");
        }
    }
}
