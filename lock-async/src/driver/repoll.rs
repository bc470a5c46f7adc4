//! Polls again at once what wakes its own task while it is polled.
//!
//! A client and its connection are both polled by the driver's task. Each step of one wakes the other, and so the
//! task itself. A runtime answers that by putting the task back into its queue, and by waking another of its
//! threads to help, twice for each request. It is cheaper to poll again.

use futures_util::task::AtomicWaker;
use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Polls in a row, after which the runtime gets the wake. Tokio's channels and sockets answer "pending" and wake the
/// task when it has had its share, until it has yielded.
const MOST: usize = 4;

thread_local! {
    /// The task that this thread polls, by the address of its bell, and true if it was woken meanwhile.
    static POLLED: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// Polls for one task.
pub(super) struct Repoll {
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task, unless the thread that rings it is the one that polls the task.
#[derive(Default)]
struct Bell {
    task: AtomicWaker,
}

impl Repoll {
    pub(super) fn new() -> Self {
        let bell = Arc::<Bell>::default();
        Self { waker: bell.clone().into(), bell }
    }

    /// Polls until it is ready, or pending without having woken its task.
    ///
    /// A wake during a poll that is ready is forgotten, so the caller must poll all of it again.
    pub(super) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.bell.task.register(cx.waker());
        for _ in 0..MOST {
            let polls = Polls::begin(&self.bell);
            let result = poll(&mut Context::from_waker(&self.waker));
            if result.is_ready() || !polls.end() {
                return result;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let own = address(self);
        // Without its locals, the thread is about to end.
        let polled = POLLED.try_with(|polled| {
            let is_polled = polled.get().0 == own;
            if is_polled {
                polled.set((own, true));
            }
            is_polled
        });
        if !polled.unwrap_or(false) {
            self.task.wake();
        }
    }
}

fn address(bell: &Arc<Bell>) -> usize {
    Arc::as_ptr(bell) as usize
}

/// While this exists, its thread polls the task. The task that it polled before comes back afterwards, also after a panic.
struct Polls {
    before: (usize, bool),
}

impl Polls {
    fn begin(bell: &Arc<Bell>) -> Self {
        Self { before: POLLED.replace((address(bell), false)) }
    }

    /// True if the task was woken meanwhile.
    fn end(self) -> bool {
        POLLED.get().1
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        POLLED.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Counts>, Waker) {
        let counts = Arc::<Counts>::default();
        (counts.clone(), counts.into())
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_without_a_wake() {
        let (wakes, waker) = task();
        let (repoll, mut polls) = (Repoll::new(), 0);
        let result = repoll.poll(&Context::from_waker(&waker), |cx| {
            polls += 1;
            match polls {
                1 | 2 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::<()>::Pending,
            }
        });
        assert_eq!((result, polls, wakes.0.load(Ordering::SeqCst)), (Poll::Pending, 3, 0));
    }

    #[test]
    fn a_task_that_goes_on_waking_itself_is_left_to_the_runtime() {
        let (wakes, waker) = task();
        let (repoll, mut polls) = (Repoll::new(), 0);
        let result = repoll.poll(&Context::from_waker(&waker), |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((result, polls, wakes.0.load(Ordering::SeqCst)), (Poll::Pending, MOST, 1));
    }

    #[test]
    fn a_wake_by_another_thread_or_between_polls_reaches_the_task() {
        let (wakes, waker) = task();
        let repoll = Repoll::new();
        let cx = Context::from_waker(&waker);
        let mut kept = None;
        let pending = repoll.poll(&cx, |cx| {
            kept = Some(cx.waker().clone());
            let other = cx.waker().clone();
            std::thread::spawn(move || other.wake()).join().expect("no panic");
            Poll::<()>::Pending
        });
        assert_eq!((pending, wakes.0.load(Ordering::SeqCst)), (Poll::Pending, 1));
        let _ = repoll.poll(&cx, |_| Poll::<()>::Pending);
        kept.expect("polled").wake();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_task_polled_inside_another_is_woken_by_it_as_by_anybody() {
        let ((outer_wakes, outer_waker), (inner_wakes, inner_waker)) = (task(), task());
        let (outer, inner) = (Repoll::new(), Repoll::new());
        let mut polls = 0;
        let _ = outer.poll(&Context::from_waker(&outer_waker), |outer_cx| {
            polls += 1;
            let _ = inner.poll(&Context::from_waker(&inner_waker), |_| {
                if polls == 1 {
                    outer_cx.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            });
            Poll::<()>::Pending
        });
        // The other task is not the one that the thread polls at that moment.
        assert_eq!((polls, outer_wakes.0.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(inner_wakes.0.load(Ordering::SeqCst), 0);
    }
}
