//! What is done with every database.

use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection as Client, Server};
use lock_core::{
    Claim, ConnectionId, Instant, LockName, Outcome, Owner, Reply, Request, SessionName, Turn,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A lock table in a database whose clock the test sets.
pub(crate) trait Real {
    /// Whether a first fence is the time that the test sets, or some other clock's.
    const FENCES_ARE_OURS: bool;

    /// Whether it tells those that wait what was freed.
    const TELLS: bool = false;

    /// Whether a claim by an earlier time than that at which its row was freed has a lease that ends by that time.
    const ENDS_BY_ITS_TIME: bool = true;

    /// What the clock shows at first, in µs.
    const START: u64;

    /// Carries out a command when the clock shows `micros`.
    fn ask(&mut self, command: &Request, micros: u64) -> Reply;

    /// Restarts the clock, and says that leases are over; or, where the clock stays, only connects
    /// anew.
    fn reboot(&mut self) -> bool;

    /// Empties the table.
    fn empty(&mut self);
}

#[derive(Clone, Debug)]
enum Step {
    /// With a clock that was read so many µs before.
    Do(Box<Request>, u64),
    Pass(u64),
    Reboot,
}

/// So short that scripts often hit an expiry to the microsecond.
const TTLS: &[u64] = &[2, 3, 10];

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let names = prop::sample::subsequence(vec!["a", "A", "\"", "\\"], 1..=3);
    let each = prop::collection::vec((1_u128..4, turn()), 3);
    (names, each).prop_map(|(mut names, each)| {
        names.sort_unstable();
        let claim = |(name, (owner, turn)): (&str, (u128, Turn))| {
            let name = LockName::new(name).expect("a good name");
            Claim { turn, ..Claim::new(name, Owner::new(owner)) }
        };
        names.into_iter().zip(each).map(claim).collect()
    })
}

/// Tickets that were drawn, will be, or were lost with their row.
fn turn() -> impl Strategy<Value = Turn> {
    let ticket = || prop::option::of(1_u64..6);
    prop_oneof![
        3 => Just(Turn::Any),
        3 => ticket().prop_map(Turn::Of),
        1 => ticket().prop_map(Turn::Loose),
    ]
}

/// A command may be overtaken by another between reading the clock and its effect.
fn late() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1_u64..4]
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = || prop::sample::select(TTLS).prop_map(Duration::from_micros);
    let label = prop::sample::select(&["one", "two"][..]);
    prop_oneof![
        6 => (claims(), ttl(), label, late()).prop_map(|(claims, ttl, label, late)| {
            Step::Do(Box::new(Request::Acquire { session: SessionName::default(), claims, ttl, min_uptime: Duration::ZERO, label: label.into() }), late)
        }),
        4 => (claims(), ttl(), late())
            .prop_map(|(leases, ttl, late)| Step::Do(Box::new(Request::Renew { claims: leases, ttl }), late)),
        3 => claims().prop_map(|leases| Step::Do(Box::new(Request::Release { passed_over: None, session: SessionName::default(), claims: leases }), 0)),
        2 => (claims(), ttl(), late())
            .prop_map(|(leases, keep, late)| Step::Do(Box::new(Request::Keep { claims: leases, keep }), late)),
        3 => (claims(), late()).prop_map(|(claims, late)| Step::Do(Box::new(Request::Probe { claims }), late)),
        4 => (1_u64..4).prop_map(Step::Pass),
        // For those ahead to claim.
        1 => prop::sample::select(&[20_000, 45_000, 90_000][..]).prop_map(Step::Pass),
        1 => Just(Step::Reboot),
    ]
}

fn scripts() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

/// What is known of the fences of each name: the fake's last, and the real ones.
type Fences = BTreeMap<LockName, (u64, Vec<u64>)>;

/// The replies are the same but for the fences, and those have the same order.
fn agree(command: &Request, ideal: &Reply, real: &Reply, fences: &mut Fences) {
    let (Reply::Outcomes(ideal), Reply::Outcomes(real)) = (ideal, real) else {
        assert_eq!(ideal, real, "{command:?}");
        return;
    };
    assert_eq!(ideal.len(), real.len());
    for ((claim, ideal), real) in command.claims().iter().zip(ideal).zip(real) {
        let (Outcome::Granted(ideal), Outcome::Granted(real)) = (ideal, real) else {
            assert_eq!(ideal, real, "{claim:?} of {command:?}");
            continue;
        };
        let (last, reals) = fences.entry(claim.name.clone()).or_default();
        if *last == ideal.get() && !reals.is_empty() {
            assert_eq!(reals.last(), Some(&real.get()), "the same hold, another fence");
        } else {
            assert!(reals.last().is_none_or(|last| *last < real.get()), "a fence that went back");
            *last = ideal.get();
            reals.push(real.get());
        }
    }
}

/// Random scripts, the shortest that fails being told.
pub(crate) fn play_many<R: Real>(real: R) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let real = RefCell::new(real);
    let played = TestRunner::new(config).run(&scripts(), |script| {
        let mut real = real.borrow_mut();
        real.empty();
        play(&mut *real, script);
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}"));
}

/// A claim that waits for the row while its holder releases it goes by an earlier time than the release. It comes in its turn all
/// the same.
pub(crate) fn claim_in_turn_by_an_earlier_time<R: Real>(mut real: R) {
    real.empty();
    let name = LockName::new("a").expect("a good name");
    let claim = |owner, turn| Claim { turn, ..Claim::new(name.clone(), Owner::new(owner)) };
    let ask = |real: &mut R, owner, ticket, millis: u64| {
        let claims = Vec::from([claim(owner, Turn::Of(ticket))]);
        let ttl = Duration::from_secs(10);
        let (session, label) = (SessionName::default(), "one".into());
        let request = Request::Acquire { session, claims, ttl, min_uptime: Duration::ZERO, label };
        match real.ask(&request, R::START + millis * 1_000) {
            Reply::Outcomes(all) => all.into_iter().next().expect("an outcome"),
            reply => panic!("{reply:?}"),
        }
    };
    let ticket = |outcome| match outcome {
        Outcome::Busy(Some(holder)) => holder.place.expect("it waits").ticket,
        Outcome::Reserved(place) => place.ticket,
        outcome => panic!("{outcome:?}"),
    };
    assert!(matches!(ask(&mut real, 1, None, 100), Outcome::Granted(_)));
    let (first, second) =
        (ticket(ask(&mut real, 2, None, 100)), ticket(ask(&mut real, 3, None, 100)));
    let owners = Vec::from([claim(1, Turn::Any)]);
    let session = SessionName::default();
    let release = Request::Release { passed_over: None, session, claims: owners };
    drop(real.ask(&release, R::START + 110_000));
    assert_eq!(ticket(ask(&mut real, 3, Some(second), 105)), second, "it is the turn of the other");
    assert_eq!(ticket(ask(&mut real, 4, None, 105)), second + 1, "it comes last");
    assert!(matches!(ask(&mut real, 2, Some(first), 105), Outcome::Granted(_)));
}

/// Carries a script out on `real`, whose table is empty, and on the model's table.
fn play<R: Real>(real: &mut R, script: Vec<Step>) {
    let mut fake = if R::TELLS { FakeTable::new().telling() } else { FakeTable::new() };
    let client = Client { client: 0, number: 0, id: ConnectionId::MAIN };
    let mut fences = Fences::new();
    let (mut boots, mut freed) = (0, 0);
    let mut now = R::START;
    for step in script {
        match step {
            Step::Do(mut command, late) => {
                of_boot(&mut command, boots);
                // On MySQL, a claim that began before a release and is carried out after it has a lease that ends a little
                // later than it need.
                let micros = now.saturating_sub(late).max(1).max(freed);
                if !R::ENDS_BY_ITS_TIME
                    && let Request::Release { .. } | Request::Keep { .. } = *command
                {
                    freed = micros;
                }
                let answer = real.ask(&command, micros);
                let ideal = fake.apply(Instant::from_nanos(micros * 1_000), client, &command);
                if R::FENCES_ARE_OURS {
                    assert_eq!(ideal, answer, "{command:?}");
                } else {
                    agree(&command, &ideal, &answer, &mut fences);
                }
            }
            Step::Pass(micros) => now += micros,
            Step::Reboot => {
                if real.reboot() {
                    boots += 1;
                    // No holder of an earlier boot is alive: as if all leases had run out. So it keeps no lock, either.
                    for row in fake.rows_mut().values_mut() {
                        row.expires = Instant::from_nanos(0);
                        (row.queue, row.served) = (0, 0);
                    }
                    // The clock of a boot begins anywhere, before or after what rows say.
                    now = [1, 995, 2_000][boots % 3];
                    freed = 0;
                }
            }
        }
    }
}

/// Has the request made by owners of this boot.
fn of_boot(request: &mut Request, boots: usize) {
    if let Request::Acquire { claims, .. }
    | Request::Renew { claims, .. }
    | Request::Release { claims, .. }
    | Request::Keep { claims, .. }
    | Request::Probe { claims } = request
    {
        for claim in claims {
            claim.owner = Owner::new(claim.owner.get() + 4 * boots as u128);
        }
    }
}
