//! Lists and purges, page by page. A page that is not full is the last.

use super::*;
use lock_core::admin::{Hold, Listing, LockState, PAGE, PurgeError, Purging, SHORTEST};

fn lock(name: &str, held: bool) -> LockState {
    LockState::new(name, Fence::new(7), held.then(|| Hold::new("host 1")))
}

/// So many locks, the first of which has this number.
fn page(first: usize, count: usize, held: bool) -> AdminResponse {
    AdminResponse::Locks((first..first + count).map(|n| lock(&format!("{n:06}"), held)).collect())
}

/// The number of requests until the last page, with answers from `answer`, and the result.
fn listed(
    mut answer: impl FnMut(Option<&str>) -> AdminResponse,
) -> (usize, Result<Vec<LockState>, Failure>) {
    let (mut listing, mut asked) = (Listing::new(), 0);
    while let Some(request) = listing.poll_request() {
        let AdminRequest::List { after } = request else { panic!("{request:?}") };
        asked += 1;
        assert!(asked < 10, "asked for ever");
        listing.handle_response(answer(after.as_deref()));
    }
    (asked, listing.finish())
}

#[test]
fn a_list_goes_on_after_the_last_name_of_each_full_page() {
    for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1] {
        let (asked, all) = listed(|after| {
            let first = after.map_or(0, |after| after.parse::<usize>().expect("a number") + 1);
            page(first, PAGE.min(count - first), true)
        });
        let names = all.expect("listed").into_iter().map(|lock| lock.name);
        assert!(names.eq((0..count).map(|n| format!("{n:06}"))), "{count}");
        assert_eq!(asked, count / PAGE + 1, "{count}");
    }
}

#[test]
fn a_page_of_leases_that_have_just_ended_is_gone_past() {
    let (asked, all) = listed(|after| match after {
        None => page(0, PAGE, false),
        Some("000499") => page(PAGE, 1, true),
        other => panic!("{other:?}"),
    });
    assert_eq!((asked, all), (2, Ok(vec![lock("000500", true)])));
}

#[test]
fn a_page_that_repeats_itself_is_no_answer() {
    for back in [0, 1] {
        let (asked, all) =
            listed(|after| page(PAGE - if after.is_none() { 0 } else { back }, PAGE, true));
        assert_eq!(asked, 2);
        assert!(matches!(all, Err(Failure::Unknown(_))), "{all:?}");
    }
}

#[test]
fn a_purge_counts_its_pages() {
    for full in [0, 1, 3] {
        let mut purging = Purging::new(SHORTEST).expect("long enough");
        for _ in 0..full {
            assert_eq!(purging.poll_request(), Some(purge(SHORTEST)));
            purging.handle_response(AdminResponse::Purged(PAGE));
        }
        assert_eq!(purging.poll_request(), Some(purge(SHORTEST)));
        purging.handle_response(AdminResponse::Purged(7));
        assert_eq!(purging.poll_request(), None);
        assert_eq!(purging.finish(), Ok(full * PAGE + 7));
    }
}

#[test]
fn a_purge_does_not_go_on_for_ever() {
    let mut purging = Purging::new(SHORTEST).expect("long enough");
    let mut asked = 0;
    while purging.poll_request().is_some() {
        asked += 1;
        assert!(asked <= Purging::MOST_PAGES, "asked for ever");
        purging.handle_response(AdminResponse::Purged(PAGE));
    }
    assert_eq!(purging.finish(), Ok(asked as usize * PAGE));
    let mut purging = Purging::new(SHORTEST).expect("long enough");
    for _ in 0..2 {
        purging.handle_response(AdminResponse::Purged(usize::MAX));
    }
    assert_eq!(purging.poll_request(), Some(purge(SHORTEST)), "and no overflow");
}

#[test]
fn a_purge_of_what_is_too_young_is_refused() {
    let short = SHORTEST - Duration::from_nanos(1);
    assert_eq!(Purging::new(short), Err(PurgeError::TooYoung));
    assert_eq!(AdminRequest::purge(short), Err(PurgeError::TooYoung));
}

#[test]
fn an_answer_to_another_request_is_no_page_and_no_lock() {
    let unknown = |result: Result<(), Failure>| {
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
    };
    let (asked, all) = listed(|_| AdminResponse::Purged(7));
    assert_eq!(asked, 1);
    unknown(all.map(drop));
    let mut purging = Purging::new(SHORTEST).expect("long enough");
    purging.handle_response(AdminResponse::Broken(None));
    assert_eq!(purging.poll_request(), None);
    unknown(purging.finish().map(drop));
    unknown(AdminResponse::Purged(7).lock().map(drop));
    unknown(page(0, 1, true).raised().map(drop));
    // Nor is none at all.
    unknown(Listing::new().finish().map(drop));
    unknown(Purging::new(SHORTEST).expect("long enough").finish().map(drop));
}
