//! The network between one client and the server. As root on Linux, the client has a network namespace of its own, and a
//! cable to a proxy at the server's end: packets that vanish in it are sent again when it is mended. Elsewhere the proxy
//! swallows the bytes, and resets the connections afterwards.

use super::plan::Act;
use crate::proxy::{Mode, Proxy};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The client's end of the cable.
const ITS_END: &str = "e0";

/// A client's way to the server.
pub struct Link {
    proxy: Proxy,
    cable: Option<Cable>,
}

/// A network namespace, and the cable into it. Both end with the process that keeps them.
struct Cable {
    keeper: Child,
    device: String,
}

impl Link {
    /// A link to `server`, a host and port, for the client of this number.
    pub fn new(server: &str, number: usize, namespaces: bool) -> Self {
        if !namespaces {
            return Self { proxy: Proxy::start(server), cable: None };
        }
        // A range that is for tests of networks. Trials that run at the same time have other parts of it.
        let base = (std::process::id() as usize % 4096) * 32 + number * 4;
        let address = |end: usize| {
            let at = base + end;
            format!("198.{}.{}.{}", 18 + (at >> 16), at >> 8 & 255, at & 255)
        };
        let cable =
            Cable::lay(&format!("h{}.{number}", std::process::id()), &address(1), &address(2));
        Self { proxy: Proxy::start_at(&address(1), server), cable: Some(cable) }
    }

    /// The URL by which the client finds the server.
    pub fn url(&self, url: &str) -> String {
        self.proxy.url(url)
    }

    /// A command in the client's network.
    pub fn command(&self, program: &Path) -> Command {
        let Some(cable) = &self.cable else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", cable.keeper.id())).arg(program);
        command
    }

    /// Lets what is sent vanish, until it is mended.
    pub fn cut(&self, act: Act) {
        let Some(cable) = &self.cable else {
            return self.proxy.set(match act {
                Act::CutRequests => Mode::NoRequests,
                Act::CutAnswers => Mode::NoReplies,
                _ => Mode::Unplugged,
            });
        };
        // Each end drops what it sends, since nothing fits into its bucket.
        let drops = "root tbf rate 8bit burst 1 latency 1ms";
        if act != Act::CutRequests {
            run("tc", &format!("qdisc add dev {} {drops}", cable.device));
        }
        if act != Act::CutAnswers {
            cable.inside(&format!("tc qdisc add dev {ITS_END} {drops}"));
        }
    }

    /// Ends a cut.
    pub fn mend(&self, act: Act) {
        let Some(cable) = &self.cable else {
            self.proxy.set(Mode::Pass);
            return self.proxy.cut(false);
        };
        if act != Act::CutRequests {
            run("tc", &format!("qdisc del dev {} root", cable.device));
        }
        if act != Act::CutAnswers {
            cable.inside(&format!("tc qdisc del dev {ITS_END} root"));
        }
    }

    /// Delays bytes in each direction from now on.
    pub fn delay(&self, each_way: Duration) {
        self.proxy.delay(each_way);
    }

    /// Resets all connections.
    pub fn reset(&self) {
        self.proxy.cut(false);
    }
}

impl Cable {
    fn lay(device: &str, here: &str, there: &str) -> Self {
        // It ends when this process does, however that is.
        let mut keeper = Command::new("unshare");
        let keeper = keeper.args(["--net", "cat"]).stdin(Stdio::piped()).spawn().expect("started");
        let cable = Self { keeper, device: device.to_string() };
        let id = cable.keeper.id();
        let space = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
        while space(&id.to_string()) == space("self") {
            std::thread::sleep(Duration::from_millis(1));
        }
        run("ip", &format!("link add {device} type veth peer name {ITS_END} netns {id}"));
        run("ip", &format!("addr add {here}/30 dev {device}"));
        run("ip", &format!("link set {device} up"));
        cable.inside(&format!("ip addr add {there}/30 dev {ITS_END}"));
        cable.inside(&format!("ip link set {ITS_END} up"));
        cable.inside("ip link set lo up");
        cable
    }

    fn inside(&self, command: &str) {
        run("nsenter", &format!("--net=/proc/{}/ns/net {command}", self.keeper.id()));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// True if namespaces and cables can be had here.
pub fn has_namespaces() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let laid = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--net").args(words).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
    };
    let script = "ip link add v0 type veth peer name v1 && ip link set v0 up && tc qdisc add dev v0 root tbf rate 8bit burst 1 latency 1ms && command -v nsenter >/dev/null";
    laid(&["sh", "-c", script])
}

fn run(program: &str, words: &str) {
    let status = Command::new(program).args(words.split(' ')).status().expect("it runs");
    assert!(status.success(), "{program} {words}");
}
