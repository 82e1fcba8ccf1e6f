//! The place that one test runs in: a namespace, a TAP, a folder.
//!
//! ```text
//!   one network namespace
//!   ┌──────────────────────────────────────────────────────────┐
//!   │ kernel (client)                        wirepath (server) │
//!   │ curl, ping, std::net ── wp0 ═ TAP ═ fd ── rings, stack … │
//!   │ 10.0.0.1, fd00::1                      10.0.0.2, fd00::2 │
//!   └──────────────────────────────────────────────────────────┘
//! ```
//!
//! No frame leaves the namespace: it has no other interface. Everything is
//! undone on drop, also when the test panics; then the folder with the capture
//! stays, and its path is printed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::netns::Netns;
use crate::{bin, process};

/// The TAP of every lab; each namespace has its own.
pub const TAP: &str = "wp0";

/// A namespace with a TAP for the server, and a folder for what it leaves.
#[derive(Debug)]
pub struct Lab {
    net: Netns,
    dir: PathBuf,
}

impl Lab {
    /// Sets up the lab of the test called `name`.
    ///
    /// None, after saying loudly why, where the machine lacks a right that it
    /// needs; the test then returns.
    ///
    /// # Panics
    /// Instead of returning None, with `WIREPATH_REQUIRE_LAB=1` set.
    pub fn new(name: &str) -> Option<Lab> {
        let lab = Lab::bare(name)?;
        lab.net.ip(&format!("tuntap add dev {TAP} mode tap"));
        lab.plug(TAP);
        Some(lab)
    }

    /// As [`Lab::new`], with a namespace that has no TAP yet.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn bare(name: &str) -> Option<Lab> {
        match Lab::set_up(name) {
            Ok(lab) => Some(lab),
            Err(reason) => {
                assert!(
                    std::env::var_os("WIREPATH_REQUIRE_LAB").is_none_or(|v| v != "1"),
                    "WIREPATH_REQUIRE_LAB=1, and no lab can be set up: {reason}"
                );
                // Written past the test harness, which keeps what a passing
                // test prints to itself.
                let _ = writeln!(io::stderr(), "SKIPPED {name}: {reason}");
                None
            }
        }
    }

    fn set_up(name: &str) -> Result<Lab, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("making network namespaces needs root (try `sudo make test`)".into());
        }
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(|err| format!("/dev/net/tun: {err} (try `modprobe tun`)"))?;
        let net = Netns::create().map_err(|err| format!("ip netns add: {err}"))?;
        raise_fd_limit();
        let dir = bin::target_dir()
            .join("lab")
            .join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|err| format!("{}: {err}", dir.display()))?;
        Ok(Lab { net, dir })
    }

    /// Brings up `interface` as the kernel's end of the cable.
    pub fn plug(&self, interface: &str) {
        for args in [
            "addr add 10.0.0.1/24 dev",
            "-6 addr add fd00::1/64 nodad dev",
        ] {
            self.net.ip(&format!("{args} {interface}"));
        }
        self.net.ip(&format!("link set {interface} up"));
    }

    /// Its namespace.
    pub fn net(&self) -> &Netns {
        &self.net
    }

    /// Its folder, which goes unless the test fails.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command inside to its end.
    ///
    /// # Panics
    /// If it cannot be started, or runs for minutes.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> process::Finished {
        process::run(self.net.command(program).args(args))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("lab: what the test left is in {}", self.dir.display());
        } else if let Err(err) = fs::remove_dir_all(&self.dir) {
            eprintln!("lab: {}: {err}", self.dir.display());
        }
    }
}

/// Lets this process hold as many connections as it may.
fn raise_fd_limit() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(err) = setrlimit(Resource::Nofile, all) {
            eprintln!("lab: the limit of open files stays: {err}");
        }
    });
}
