//! `wirepath serve` on the device of a lab.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Client, Reply};
use crate::lab::{Lab, SERVER_END};
use crate::process::{self, Daemon, Finished};
use crate::{bin, lab};

/// The file in the lab's folder that a server captures to.
pub const CAPTURE: &str = "server.pcapng";

/// How the server of a test is started.
#[derive(Debug)]
#[must_use = "`start` starts it"]
pub struct Serve<'lab> {
    lab: &'lab Lab,
    /// Instead of `wirepath serve`.
    program: Option<PathBuf>,
    capture: bool,
    addrs: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl<'lab> Serve<'lab> {
    /// A server with the addresses of [`Server::V4`] and [`Server::V6`], that
    /// captures to [`CAPTURE`].
    pub fn new(lab: &'lab Lab) -> Serve<'lab> {
        Serve {
            lab,
            program: None,
            capture: true,
            addrs: ["--addr", "10.0.0.2/24", "--addr", "fd00::2/64"]
                .map(ToOwned::to_owned)
                .into(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Serves at one port of the addresses that the kernel has on the lab's
    /// interface, of which [`Lab::give_host_addresses`] makes those of
    /// [`Server::V4`] and [`Server::V6`].
    pub fn sharing_host(mut self) -> Self {
        self.addrs = ["--share-host", "--ports", "8080"]
            .map(ToOwned::to_owned)
            .into();
        self
    }

    /// Runs another program than `wirepath serve`, which takes its options.
    pub fn program(mut self, program: &str) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Does not capture: for tests that move many bytes.
    pub fn without_capture(mut self) -> Self {
        self.capture = false;
        self
    }

    /// Adds flags.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not get as far.
    #[track_caller]
    pub fn start(self) -> Server<'lab> {
        let mut daemon = self.begin();
        daemon.wait_for("listening on");
        Server {
            lab: self.lab,
            daemon,
        }
    }

    /// Starts it, and does not wait.
    ///
    /// # Panics
    /// If there is no such program.
    #[track_caller]
    pub fn begin(&self) -> Daemon {
        Daemon::start(&mut self.command()).expect("the lab can start programs")
    }

    /// Runs one that ought to end by itself, to its end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn run(&self) -> Finished {
        process::run(&mut self.command())
    }

    fn command(&self) -> Command {
        let mut command = match &self.program {
            Some(program) => run_in(self.lab, program),
            None => command(self.lab),
        };
        if self.program.is_none() {
            command.arg("serve");
        }
        command.args(self.lab.device().serve_args(SERVER_END));
        command.args(&self.addrs).args(["--listen", ":8080"]);
        if self.capture {
            command.arg("--pcap").arg(self.lab.dir().join(CAPTURE));
        }
        command.args(&self.args).envs(self.env.iter().cloned());
        command
    }
}

/// The first counter called `name` in a value, however deep.
fn find(value: &Value, name: &str) -> Option<u64> {
    match value {
        Value::Object(members) => members
            .get(name)
            .and_then(Value::as_u64)
            .or_else(|| members.values().find_map(|member| find(member, name))),
        Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

/// The `wirepath` command where the lab has its server, that dies with the
/// test.
pub fn command(lab: &lab::Lab) -> Command {
    run_in(lab, bin::wirepath())
}

fn run_in(lab: &lab::Lab, program: &Path) -> Command {
    let mut command = lab.server_net().command("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command.arg(program).current_dir(lab.dir());
    command
}

/// A server that runs, stopped when dropped.
#[derive(Debug)]
pub struct Server<'lab> {
    lab: &'lab Lab,
    daemon: Daemon,
}

impl Server<'_> {
    /// Its IPv4 address, as a URL has it.
    pub const V4: &'static str = "10.0.0.2:8080";
    /// Its IPv6 address, as a URL has it.
    pub const V6: &'static str = "[fd00::2]:8080";

    /// A new connection to it over IPv4.
    ///
    /// # Panics
    /// If it does not accept.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.connect(Server::V4).expect("the server accepts")
    }

    /// A new connection to one of its addresses.
    ///
    /// # Errors
    /// As [`std::net::TcpStream::connect`].
    pub fn connect(&self, to: &str) -> io::Result<Client> {
        let to: SocketAddr = to.parse().expect("a literal address");
        self.lab.net().connect(to).map(Client::new)
    }

    /// One GET on a connection of its own.
    ///
    /// # Panics
    /// If there is no reply.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.client().get(path)
    }

    /// Shows that the server is alive and well: a new client gets its page.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn check_alive(&self) {
        let reply = self.get("/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body, b"Hello, World!\n");
    }

    /// Its counters.
    ///
    /// # Panics
    /// If they are not JSON.
    #[track_caller]
    pub fn counters(&self) -> Value {
        let reply = self.get("/debug/wirepath/counters");
        assert_eq!(reply.status, 200);
        serde_json::from_slice(&reply.body)
            .unwrap_or_else(|err| panic!("{err}: {}", String::from_utf8_lossy(&reply.body)))
    }

    /// The counter called `name`.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.counters();
        let parts = ["server", "stack", "runtime"].map(|part| &counters[part][name]);
        let found = parts.into_iter().find_map(Value::as_u64);
        let found = found.or_else(|| find(&counters, name));
        found.unwrap_or_else(|| panic!("no counter called {name} in {counters:#}"))
    }

    /// The program itself.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Asks it to stop, waits, and returns how it ended and what it printed.
    ///
    /// # Panics
    /// If it does not stop.
    #[track_caller]
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.daemon.signal(Signal::TERM);
        self.daemon.wait()
    }
}
