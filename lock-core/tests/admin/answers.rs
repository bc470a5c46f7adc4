//! What the rows mean.

use super::*;
use lock_core::admin::{Hold, LockState, SHORTEST};

fn answer(codec: &Codec, request: &AdminRequest, rows: Rows) -> Result<AdminResponse, Failure> {
    run(codec, request, &rows).1
}

fn row(name: &str, fence: i64, held: i64, left: i64) -> Vec<Value> {
    vec![text(name), int(fence), text("host 1"), int(held), int(left), int(0), int(0)]
}

fn lock(name: &str, fence: u64, hold: Option<(u64, u64)>) -> LockState {
    let hold = hold.map(|(held, left)| {
        let mut hold = Hold::new("host 1");
        hold.held_for = Some(Duration::from_micros(held));
        hold.expires_in = Some(Duration::from_micros(left));
        hold
    });
    LockState::new(name, Fence::new(fence), hold)
}

#[test]
fn a_lease_that_ends_later_than_it_can_says_so() {
    let mut late = row("a", 7, 1, 3_600_000_000);
    late[5] = int(1);
    for codec in all() {
        let Ok(AdminResponse::Locks(locks)) = answer(&codec, &status(), vec![late.clone()]) else {
            panic!("no locks");
        };
        assert!(locks[0].hold.as_ref().is_some_and(|hold| hold.ends_late));
    }
}

#[test]
fn a_lock_that_was_released_and_is_kept_says_so() {
    let mut kept = row("a", 7, 1, 3_600_000_000);
    kept[6] = int(1);
    for codec in all() {
        let answered = answer(&codec, &status(), vec![kept.clone()]);
        let Ok(AdminResponse::Locks(locks)) = answered else { panic!("{answered:?}") };
        assert!(locks[0].hold.as_ref().is_some_and(|hold| hold.kept));
    }
}

#[test]
fn a_lock_is_held_while_its_lease_has_time_left() {
    let rows = vec![
        row("b", 8, 2_000_000, 1),
        row("a", i64::MAX, 1, i64::MAX),
        row("c", 0, -1, 3),
        row("d", 9, 2_000_000, 0),
        row("e", 9, 2_000_000, -1),
        row("f", 9, i64::MIN, i64::MIN),
    ];
    let locks = vec![
        lock("b", 8, Some((2_000_000, 1))),
        lock("a", i64::MAX as u64, Some((1, i64::MAX as u64))),
        lock("c", 0, Some((0, 3))),
        lock("d", 9, None),
        lock("e", 9, None),
        lock("f", 9, None),
    ];
    for codec in all() {
        for request in [list(None), status()] {
            let answered = answer(&codec, &request, rows.clone());
            assert_eq!(answered, Ok(AdminResponse::Locks(locks.clone())));
            assert_eq!(answer(&codec, &request, vec![]), Ok(AdminResponse::Locks(vec![])));
        }
    }
}

#[test]
fn a_break_says_what_the_next_fence_is_greater_than() {
    let broken = |fence| Ok(AdminResponse::Broken(Some(Fence::new(fence))));
    for codec in all() {
        let says = |rows| answer(&codec, &breaks(7), rows);
        assert_eq!(says(vec![vec![int(8)]]), broken(8));
        assert_eq!(says(vec![vec![int(i64::MAX)]]), broken(i64::MAX as u64));
        for over in [vec![], vec![vec![int(0)]]] {
            assert_eq!(says(over), Ok(AdminResponse::Broken(None)));
        }
    }
}

#[test]
fn a_purge_says_how_many_rows_went() {
    let cases = [
        (vec![], 0),
        (vec![vec![text("a")]], 1),
        (vec![vec![text("a")], vec![text("b")]], 2),
        (vec![vec![int(0)]], 0),
        (vec![vec![int(500)]], 500),
    ];
    for codec in all() {
        for (rows, number) in cases.clone() {
            assert_eq!(answer(&codec, &purge(SHORTEST), rows), Ok(AdminResponse::Purged(number)));
        }
    }
}

#[test]
fn rows_that_no_request_returns_are_not_believed() {
    let one = |row: Vec<Value>| vec![row];
    let with = |column: usize, value: Value| {
        let mut row = row("a", 7, 1, 1);
        row[column] = value;
        vec![row]
    };
    let long = [row("a", 7, 1, 1), vec![int(1)]].concat();
    let states: Vec<Rows> = vec![
        vec![vec![]],
        one(row("a", 7, 1, 1)[..4].to_vec()),
        one(long),
        with(0, Value::Null),
        with(1, int(-1)),
        with(1, text("7")),
        with(2, Value::Null),
        with(3, Value::Null),
        with(4, Value::Null),
        vec![row("a", 7, 1, 1), vec![]],
    ];
    let numbers: Vec<Rows> = vec![
        vec![vec![]],
        one(vec![int(-1)]),
        one(vec![Value::Null]),
        one(vec![int(7), int(7)]),
        vec![vec![int(7)], vec![int(7)]],
    ];
    let fences = [vec![one(vec![text("7")])], numbers.clone()].concat();
    let names: Vec<Rows> =
        vec![one(vec![text("a"), text("a")]), vec![vec![text("a")], vec![int(7)]]];
    let purged = [names, numbers].concat();
    let cases = [
        (list(None), &states),
        (status(), &states),
        (breaks(7), &fences),
        (purge(SHORTEST), &purged),
    ];
    for codec in all() {
        for (request, hostile) in &cases {
            for rows in *hostile {
                let answered = answer(&codec, request, rows.clone());
                assert!(matches!(answered, Err(Failure::Unknown(_))), "{rows:?}: {answered:?}");
            }
        }
    }
}
