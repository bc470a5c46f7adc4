//! A mixed fleet: processes of an npm package and of ours, which contend for one lock. `tests/fleets` starts the server and
//! runs it.
//!
//! `fleet PACKAGE URL SECONDS`: three processes use the npm package PACKAGE, and URL is that of both drivers and of `withlock`.
//! The member that is inside has created the file `inside`, which can be created by one only. Each member must have had the lock.

use lock_tests::drivers::{Driver, connect};
use lock_tests::withlock::binary;
use std::fs::{OpenOptions, read_to_string, remove_file};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const NAME: &str = "report";
const INSIDE: Duration = Duration::from_millis(5);

/// The command's loop.
const LOOP: &str = r#"
end=$(($(date +%s) + $2))
while [ "$(date +%s)" -lt "$end" ]; do
  "$1" --db "$3" "$4" -- sh -c 'set -C; (: >inside) 2>/dev/null || echo withlock >>overlaps; sleep 0.005; rm -f inside; echo >>withlock' || echo failed >>failures
done"#;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [package, url, seconds] = &arguments[..] else { panic!("fleet PACKAGE URL SECONDS") };
    let time = Duration::from_secs(seconds.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let (at, withlock) = (folder.path(), binary());
    let peers: Vec<Child> = (0..3).map(|number| peer(package, at, seconds, number)).collect();
    let command = Command::new("sh")
        .args(["-c", LOOP, "-"])
        .arg(withlock)
        .args([seconds, url, NAME])
        .current_dir(at)
        .spawn()
        .expect("sh");
    let drivers = [Driver::Blocking, Driver::Tokio].map(|driver| {
        let (url, at) = (url.clone(), at.to_path_buf());
        (driver, std::thread::spawn(move || contend(driver, &url, &at, time)))
    });
    let ours = drivers.map(|(driver, thread)| (driver, thread.join().expect("no panic")));
    for mut child in peers.into_iter().chain([command]) {
        assert!(child.wait().expect("it ends").success());
    }
    let count = |name: &str| read_to_string(at.join(name)).map_or(0, |text| text.lines().count());
    let fallen = fallen(ours.iter().flat_map(|(_, grants)| grants.clone()).collect());
    let (overlaps, failures) = (count("overlaps"), count("failures"));
    let npm: Vec<usize> = (0..3).map(|number| count(&format!("peer{number}"))).collect();
    let withlock = count("withlock");
    let [(_, blocking), (_, tokio)] = &ours;
    println!(
        "{time:?}: npm {npm:?} and {} deadlocks, withlock {withlock}, Blocking {}, Tokio {}; {overlaps} overlaps, {fallen} fences not greater, {failures} failures",
        count("deadlocks"),
        blocking.len(),
        tokio.len(),
    );
    assert_eq!((overlaps, fallen, failures), (0, 0, 0));
    let holds = npm.into_iter().chain([withlock, blocking.len(), tokio.len()]);
    assert!(holds.min() > Some(0), "each member had the lock");
}

fn peer(package: &str, at: &Path, seconds: &str, number: usize) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet/member.js");
    let mut peer = Command::new("node");
    peer.arg(script).args([package, NAME, seconds, &format!("peer{number}")]).current_dir(at);
    peer.spawn().expect("node")
}

/// The moment and the fence of each grant.
fn contend(driver: Driver, url: &str, at: &Path, time: Duration) -> Vec<(Instant, u64)> {
    let locks = connect(driver, url).expect("connected");
    let (began, mut grants) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let guard = match locks.try_lock_for(NAME, Duration::from_secs(30)) {
            Ok(Some(guard)) => guard,
            other => panic!("{driver:?}: {:?}", other.map(|_| "busy for 30 s")),
        };
        grants.push((Instant::now(), guard.fence().get()));
        inside(at, &format!("{driver:?}"));
        guard.release().expect("released");
    }
    grants
}

fn inside(at: &Path, who: &str) {
    let file: PathBuf = at.join("inside");
    if OpenOptions::new().write(true).create_new(true).open(&file).is_err() {
        let told = OpenOptions::new().create(true).append(true).open(at.join("overlaps"));
        told.and_then(|mut file| writeln!(file, "{who}")).expect("written");
    }
    std::thread::sleep(INSIDE);
    let _ = remove_file(&file);
}

/// How often a fence was not greater than that of the grant before.
fn fallen(mut grants: Vec<(Instant, u64)>) -> usize {
    grants.sort();
    grants.windows(2).filter(|pair| pair[1].1 <= pair[0].1).count()
}
