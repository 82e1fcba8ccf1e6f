//! The place that one test runs in: namespaces, a cable, a folder.
//!
//! With a TAP, one network namespace holds both ends, which are told apart by
//! the TAP itself:
//!
//! ```text
//!   ┌──────────────────────────────────────────────────────────┐
//!   │ kernel (client)                        wirepath (server) │
//!   │ curl, ping, std::net ── wp0 ═ TAP ═ fd ── rings, stack … │
//!   │ 10.0.0.1, fd00::1                      10.0.0.2, fd00::2 │
//!   └──────────────────────────────────────────────────────────┘
//! ```
//!
//! With AF_XDP each has a namespace of its own, and a veth pair joins them. In
//! one namespace the kernel would deliver to itself what is for an address of
//! either end.
//!
//! ```text
//!   ┌─ client ───────────────┐     ┌─ server ──────────────────┐
//!   │ kernel                 │     │  ┌─ XDP ── rings, stack … │
//!   │ curl, ping, … ── wp1 ══╪veth═╪══ wp0   10.0.0.2, fd00::2 │
//!   │ 10.0.0.1, fd00::1      │     │  └─ the server's kernel   │
//!   └────────────────────────┘     └───────────────────────────┘
//! ```
//!
//! No frame leaves: the namespaces have no other interface. Everything is
//! undone on drop, also when the test panics; then the folder with the capture
//! stays, and its path is printed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::device::Device;
use crate::netns::Netns;
use crate::{bin, process};

/// The interface that a lab's server is put on; each namespace has its own.
pub const SERVER_END: &str = "wp0";

/// The client's end of a veth pair.
const VETH_CLIENT_END: &str = "wp1";

/// What makes a veth pair a cable for AF_XDP: a sender that leaves checksums
/// and segmentation to its device leaves them undone, since that device is the
/// server's memory.
const OFFLOADS_OFF: [&str; 6] = ["tx", "off", "tso", "off", "gso", "off"];

/// Namespaces with a cable between client and server, and a folder for what
/// the server leaves.
#[derive(Debug)]
pub struct Lab {
    device: Device,
    client: Netns,
    /// The server's namespace, unless it shares the client's.
    server: Option<Netns>,
    dir: PathBuf,
}

impl Lab {
    /// Sets up the lab of the test called `name`, for a server on `device`.
    ///
    /// None, after saying loudly why, where the machine lacks a right that it
    /// needs; the test then returns.
    ///
    /// # Panics
    /// Instead of returning None, with `WIREPATH_REQUIRE_LAB=1` set.
    pub fn new(device: Device, name: &str) -> Option<Lab> {
        Lab::with_queues(device, name, 1)
    }

    /// As [`Lab::new`], with a cable of that many queues each way.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn with_queues(device: Device, name: &str, queues: u32) -> Option<Lab> {
        let lab = Lab::bare(device, name)?;
        match &lab.server {
            None => lab.lay_tap(queues),
            Some(server) => lab.lay_veth(server, queues),
        }
        lab.plug(lab.client_end());
        Some(lab)
    }

    /// As [`Lab::new`], without a cable yet.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn bare(device: Device, name: &str) -> Option<Lab> {
        match Lab::set_up(device, name) {
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

    fn set_up(device: Device, name: &str) -> Result<Lab, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("making network namespaces needs root (try `sudo make test`)".into());
        }
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(|err| format!("/dev/net/tun: {err} (try `modprobe tun`)"))?;
        let net = || Netns::create().map_err(|err| format!("ip netns add: {err}"));
        let client = net()?;
        let server = device.is_xdp().then(net).transpose()?;
        raise_fd_limit();
        let folder = format!("{name}-{}-{}", device.name(), std::process::id());
        let dir = bin::target_dir().join("lab").join(folder);
        fs::create_dir_all(&dir).map_err(|err| format!("{}: {err}", dir.display()))?;
        Ok(Lab {
            device,
            client,
            server,
            dir,
        })
    }

    fn lay_tap(&self, queues: u32) {
        let many = if queues > 1 { " multi_queue" } else { "" };
        let args = format!("tuntap add dev {SERVER_END} mode tap{many}");
        self.client.ip(&args);
    }

    fn lay_veth(&self, server: &Netns, queues: u32) {
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        let peer = format!("name {VETH_CLIENT_END} netns {}", self.client.name());
        server.ip(&format!(
            "link add {SERVER_END} {queues} type veth peer {peer} {queues}"
        ));
        self.set_client_offloads(&OFFLOADS_OFF);
        server.ip(&format!("link set {SERVER_END} up"));
    }

    /// Runs `ethtool -K` on the client's end of the cable.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[track_caller]
    pub fn set_client_offloads(&self, changes: &[&str]) {
        let mut ethtool = self.client.command("ethtool");
        ethtool.args(["-K", self.client_end()]).args(changes);
        process::run(&mut ethtool).ok();
    }

    /// Brings up `interface` as the kernel's end of the cable.
    pub fn plug(&self, interface: &str) {
        for args in [
            "addr add 10.0.0.1/24 dev",
            "-6 addr add fd00::1/64 nodad dev",
        ] {
            self.client.ip(&format!("{args} {interface}"));
        }
        self.client.ip(&format!("link set {interface} up"));
    }

    /// Sets the MTU of the cable.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[track_caller]
    pub fn set_mtu(&self, mtu: u32) {
        let set = |interface| format!("link set {interface} mtu {mtu}");
        self.server_net().ip(&set(SERVER_END));
        self.client.ip(&set(self.client_end()));
    }

    /// Gives the server's kernel the addresses of the server itself, which then
    /// shares them.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[track_caller]
    pub fn give_host_addresses(&self) {
        let net = self.server_net();
        net.ip(&format!("addr add 10.0.0.2/24 dev {SERVER_END}"));
        net.ip(&format!("-6 addr add fd00::2/64 nodad dev {SERVER_END}"));
    }

    /// What its server is put on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The client's namespace.
    pub fn net(&self) -> &Netns {
        &self.client
    }

    /// The namespace that the server runs in.
    pub fn server_net(&self) -> &Netns {
        self.server.as_ref().unwrap_or(&self.client)
    }

    /// The client's interface.
    pub fn client_end(&self) -> &'static str {
        if self.device.is_xdp() {
            VETH_CLIENT_END
        } else {
            SERVER_END
        }
    }

    /// Its folder, which goes unless the test fails.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command where the client is, to its end.
    ///
    /// # Panics
    /// If it cannot be started, or runs for minutes.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> process::Finished {
        process::run(self.client.command(program).args(args))
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
