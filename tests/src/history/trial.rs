//! A trial: clients that contend in a place, and the faults that a seed says.

use super::check::Bounds;
use super::client::{Broken, Client};
use super::network::{Link, has_namespaces};
use super::plan::{Act, Dice, Fault, Target};
use super::site::Site;
use super::{Event, Hold, Pen, Reader, What, now};
use crate::withlock::{binary, children};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The kinds of clients.
const KINDS: [&str; 6] = ["sync", "async", "withlock", "sync", "async", "withlock"];

/// The settings of a trial.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of its [`Site`].
    pub place: String,
    /// The number of faults.
    pub cycles: usize,
    /// The seed of all that is drawn.
    pub seed: u64,
    /// The bug of its clients.
    pub broken: Broken,
    /// The TTL of its locks. None for 2 s; 10 s in Consul.
    pub ttl: Option<Duration>,
}

/// A client's process, and its network.
struct Running {
    client: Client,
    link: Option<Link>,
    process: Child,
}

struct Trial<'a> {
    clients: Vec<Running>,
    site: Site,
    pen: &'a Pen,
    reader: Reader,
    /// Who has which lock, as far as it was read.
    held: BTreeMap<Hold, String>,
    /// The last grant of each client.
    granted: BTreeMap<String, u64>,
    broken: Broken,
}

/// Runs a trial, and writes the history to the file at `path`.
///
/// # Errors
/// There is no such place.
pub fn run(settings: &Settings, path: &Path) -> Result<(), String> {
    let Settings { place, cycles, seed, broken, ttl } = settings;
    let site = Site::open(place, *ttl)?;
    let namespaces = site.server.is_some() && has_namespaces();
    let pen = Pen::new(path, "trial");
    let network = if namespaces { "namespaces" } else { "proxies" };
    let (ttl, reader) = (site.ttl, Reader::new(path));
    let told = format!("place={place} ttl={} seed={seed} network={network}", ttl.as_millis());
    pen.write(now(), What::Began(told));
    // The table is there before its clients.
    drop(site.place.locks(Duration::from_secs(30)));
    let start = |number| Running::start(&site, number, *seed, *broken, path, namespaces, &pen);
    let clients = (0..KINDS.len()).map(start).collect();
    let (held, granted) = (BTreeMap::new(), BTreeMap::new());
    let mut trial = Trial { site, clients, pen: &pen, reader, held, granted, broken: *broken };
    let (acts, mut dice) = (trial.site.acts(namespaces), Dice::new(*seed, place));
    trial.everyone_after(now());
    for cycle in 0..*cycles {
        let fault = Fault::draw(&mut dice, &acts, KINDS.len(), ttl);
        trial.suffers(cycle, &fault);
        trial.everyone_after(now());
    }
    // One after the other: what one of them had, another may still get.
    for running in std::mem::take(&mut trial.clients) {
        pen.write_of(&running.client.who, now(), What::Killed);
        drop(running);
    }
    drop(trial);
    // What their commands still wrote.
    std::thread::sleep(Duration::from_millis(100));
    pen.write(now(), What::End);
    Ok(())
}

impl Running {
    fn start(
        site: &Site,
        number: usize,
        seed: u64,
        broken: Broken,
        path: &Path,
        namespaces: bool,
        pen: &Pen,
    ) -> Self {
        let link = site.host().map(|host| Link::new(&host, number, namespaces));
        let plain = site.place.url();
        let url =
            site.url(&link.as_ref().map_or_else(|| plain.to_string(), |link| link.url(plain)));
        let who = format!("{}{number}", KINDS[number]);
        let (history, withlock) = (path.to_path_buf(), binary().to_path_buf());
        let client = Client { who, url, history, withlock, ttl: site.ttl, seed, broken };
        let process = spawn(&client, link.as_ref(), pen);
        Self { client, link, process }
    }

    /// The process that has the lock, or waits for it: for a command, withlock.
    fn holder(&self) -> Option<Pid> {
        let own = Pid::from_child(&self.process);
        if self.client.who.starts_with("withlock") {
            children(own).first().copied()
        } else {
            Some(own)
        }
    }
}

fn spawn(client: &Client, link: Option<&Link>, pen: &Pen) -> Child {
    let this = std::env::current_exe().expect("known");
    let mut command = match link {
        Some(link) => link.command(&this),
        None => std::process::Command::new(this),
    };
    command.arg("client").args(client.to_args()).stdin(Stdio::null()).stdout(Stdio::null());
    let process = command.spawn().expect("started");
    pen.write_of(&client.who, now(), What::Up);
    process
}

impl Drop for Running {
    fn drop(&mut self) {
        let holder = self.holder();
        let _ = self.process.kill();
        let _ = self.process.wait();
        if self.client.who.starts_with("withlock") {
            let _ = holder.map(|withlock| kill_process(withlock, Signal::KILL));
        }
    }
}

impl Trial<'_> {
    /// Does it and undoes it.
    fn suffers(&mut self, cycle: usize, fault: &Fault) {
        let Fault { act, target, after, time, delay, clock: (ahead, rate) } = fault;
        let links = |this: &Self, does: &dyn Fn(&Link)| {
            this.clients.iter().filter_map(|client| client.link.as_ref()).for_each(does);
        };
        links(self, &|link| link.delay(*delay));
        std::thread::sleep(*after);
        self.read();
        let victim = match target {
            Target::Holder => self.holder(cycle).unwrap_or(cycle % KINDS.len()),
            Target::Client(number) | Target::All(number) => *number,
        };
        let victims = match target {
            Target::All(_) if !matches!(act, Act::Kill | Act::Stop) => 0..KINDS.len(),
            _ => victim..victim + 1,
        };
        self.pen.write(now(), What::Fault(format!("{fault}; {victim}")));
        let cut = |does: &dyn Fn(&Link)| {
            self.clients[victims.clone()].iter().filter_map(|it| it.link.as_ref()).for_each(does);
        };
        match (act, &self.site.server) {
            (Act::Kill, _) => self.kills(victim),
            (Act::Stop, _) => self.stops(victim, *time),
            (Act::CutBoth | Act::CutRequests | Act::CutAnswers, _) => {
                cut(&|link| link.cut(*act));
                std::thread::sleep(*time);
                cut(&|link| link.mend(*act));
            }
            (Act::Reset, _) => cut(&Link::reset),
            (Act::Freeze, Some(server)) => {
                server.pause();
                std::thread::sleep(*time);
                server.resume();
            }
            (Act::Restart, Some(server)) => server.restart(),
            (Act::Crash, Some(server)) => {
                server.kill();
                std::thread::sleep(*time);
                server.start();
            }
            (Act::Clock, Some(server)) => {
                server.set_clock_at(&format!("{ahead:+} x{}.{:02}", rate / 100, rate % 100));
                std::thread::sleep(*time);
            }
            (_, None) => panic!("{act:?} of a file"),
        }
        links(self, &|link| link.delay(Duration::ZERO));
        self.pen.write(now(), What::Healed);
    }

    /// A client that has a lock.
    fn holder(&self, cycle: usize) -> Option<usize> {
        let who = self.held.values().cycle().nth(cycle)?;
        self.clients.iter().position(|running| running.client.who == *who)
    }

    /// A signal to the process that has the lock. Returns it, if it is there.
    fn signal(&self, victim: usize, signal: Signal, what: What) -> Option<Pid> {
        let Running { client, .. } = &self.clients[victim];
        let until = Instant::now() + Duration::from_secs(2);
        let pid = loop {
            match self.clients[victim].holder() {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                found => break found?,
            }
        };
        if self.broken == Broken::Guardian && client.who.starts_with("withlock") {
            for guardian in children(pid) {
                let _ = kill_process(guardian, Signal::STOP);
            }
        }
        self.pen.write_of(&client.who, now(), what);
        let _ = kill_process(pid, signal);
        Some(pid)
    }

    fn kills(&mut self, victim: usize) {
        self.signal(victim, Signal::KILL, What::Killed);
        let Running { client, link, process } = &mut self.clients[victim];
        if !client.who.starts_with("withlock") {
            let _ = process.wait();
            *process = spawn(client, link.as_ref(), self.pen);
        }
    }

    fn stops(&mut self, victim: usize, time: Duration) {
        let stopped = self.signal(victim, Signal::STOP, What::Stopped);
        std::thread::sleep(time);
        if let Some(pid) = stopped {
            self.pen.write_of(&self.clients[victim].client.who, now(), What::Continued);
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    fn read(&mut self) {
        for Event { at, who, what } in self.reader.read() {
            match what {
                What::Grant(hold) => {
                    self.granted.insert(who.clone(), at);
                    self.held.insert(Hold { until: None, ..hold }, who);
                }
                What::Lost(hold) | What::Release(hold) => {
                    self.held.remove(&Hold { until: None, ..hold });
                }
                What::Killed | What::Denied(_) | What::Invoke(_) => {
                    self.held.retain(|_, holder| *holder != who);
                }
                _ => {}
            }
        }
    }

    /// Waits until each client has had a lock after `then`, or should have. Starts those anew that ended by themselves.
    fn everyone_after(&mut self, then: u64) {
        let until = Instant::now() + Bounds::of(self.site.ttl).grant;
        loop {
            self.read();
            let got = |running: &Running| {
                self.granted.get(&running.client.who).is_some_and(|at| *at > then)
            };
            if self.clients.iter().all(got) || Instant::now() > until {
                return;
            }
            for Running { client, link, process } in &mut self.clients {
                if let Ok(Some(_)) = process.try_wait() {
                    self.pen.write_of(&client.who, now(), What::Exited);
                    // One that cannot run at all must not fill the history.
                    std::thread::sleep(Duration::from_secs(1));
                    *process = spawn(client, link.as_ref(), self.pen);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
