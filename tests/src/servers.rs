//! A server of a test's own, to be restarted, frozen and killed.

use crate::place::Place;
use std::path::PathBuf;
use std::process::Command;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Kind {
    /// A place on the server that the environment names.
    pub fn place(self) -> Place {
        match self {
            Self::Postgres => Place::postgres(),
            Self::Mysql => Place::mysql(),
            Self::Mariadb => Place::mariadb(),
        }
    }

    /// A server of the test's own.
    pub fn server(self) -> Server {
        Server::new(self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// A private server. Dropping it ends the server.
pub struct Server {
    folder: tempfile::TempDir,
    name: &'static str,
    settings: Vec<(&'static str, String)>,
    url: String,
}

impl Server {
    /// Starts a PostgreSQL.
    pub fn postgres() -> Self {
        Self::new("postgres")
    }

    /// Starts a Consul.
    pub fn consul() -> Self {
        Self::new("consul")
    }

    /// Starts a server whose clock is `ahead` seconds ahead of the machine's.
    pub fn with_clock(kind: Kind, ahead: i64) -> Self {
        Self::with_clock_at(kind, &format!("{ahead:+}"))
    }

    /// Starts a server with a clock of its own: `+60 x1.1` is a minute ahead, and 10 % too fast.
    pub fn with_clock_at(kind: Kind, clock: &str) -> Self {
        Self::with(kind.name(), &[("LOCK_SERVERS_CLOCK", clock)])
    }

    /// Sets that clock.
    pub fn set_clock(&self, ahead: i64) {
        self.set_clock_at(&format!("{ahead:+}"));
    }

    /// Sets that clock and its rate. The rate counts from the server's start.
    pub fn set_clock_at(&self, clock: &str) {
        let (new, file) = (self.folder().join("clock.new"), self.folder().join("clock"));
        std::fs::write(&new, format!("{clock}\n")).expect("written");
        std::fs::rename(new, file).expect("in its place");
    }

    /// Starts a Consul with more of a configuration, as HCL.
    pub fn consul_with(hcl: &str) -> Self {
        Self::with("consul", &[("LOCK_SERVERS_CONSUL", hcl)])
    }

    /// Starts a server of this kind that follows the one at `primary`, a host and port: a standby, a replica, or a
    /// further server of a cluster.
    pub fn following(name: &'static str, primary: &str, settings: &[(&'static str, &str)]) -> Self {
        Self::with(name, &[settings, &[("LOCK_SERVERS_PRIMARY", primary)]].concat())
    }

    /// Makes this server follow another, from nothing, at its old address. It is killed first, if it runs.
    pub fn follow(&mut self, primary: &str) {
        self.command(&["empty"]);
        self.settings.retain(|(name, _)| *name != "LOCK_SERVERS_PRIMARY");
        self.settings.push(("LOCK_SERVERS_PRIMARY", primary.to_string()));
        self.start();
    }

    /// Starts a PgBouncer before a PostgreSQL, with more of a configuration.
    pub fn pgbouncer(postgres: &str, ini: &str) -> Self {
        let upstream = crate::proxy::server_of(postgres);
        let settings = [("LOCK_SERVERS_POSTGRES", &*upstream), ("LOCK_SERVERS_PGBOUNCER", ini)];
        Self::with("pgbouncer", &settings)
    }

    fn new(name: &'static str) -> Self {
        Self::with(name, &[])
    }

    /// Starts a server, with variables for the script.
    pub fn with(name: &'static str, settings: &[(&'static str, &str)]) -> Self {
        let base =
            std::env::var_os("LOCK_SERVERS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new().prefix("server-").tempdir_in(base).expect("a folder");
        let settings = settings.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let mut server = Self { folder, name, settings, url: String::new() };
        let told = server.command(&["start", name]);
        let url = told.lines().find_map(|line| line.split_once("_URL="));
        server.url = url.expect("the script prints a URL").1.to_string();
        server
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops and starts it, on the same port.
    pub fn restart(&self) {
        self.command(&["restart"]);
    }

    /// Kills all of the server's processes at once, as a crash would.
    pub fn kill(&self) {
        self.command(&["kill"]);
    }

    /// The folder of the server's files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts it again.
    pub fn start(&self) {
        self.command(&["start", self.name]);
    }

    /// Freezes the server: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.command(&["pause"]);
    }

    /// Ends a freeze.
    pub fn resume(&self) {
        self.command(&["resume"]);
    }

    fn command(&self, words: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers");
        // Errors go to a file and not to a pipe, because the server would keep a pipe open.
        let output = Command::new(script)
            .args(words)
            .arg(self.folder.path())
            .envs(self.settings.iter().cloned())
            .output()
            .expect("the script runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers");
        let _ = Command::new(script).arg("wipe").arg(self.folder.path()).output();
    }
}
