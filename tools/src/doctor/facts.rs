//! What was seen of a machine and an interface, without any judgement.
//!
//! Plain values that can be written down and judged elsewhere, so that a bug
//! report holds all that the judgement saw, and a machine that is not here can
//! be a test. A field is `None` when it could not be seen: [`Facts::unseen`]
//! says why. An empty list is a list that was seen and is empty.
//!
//! A record of an older version is read as far as it goes: what it lacks
//! counts as unseen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// All that `doctor` saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The `wirepath` that looked.
    pub build: Build,
    /// The machine.
    pub machine: Machine,
    /// The interface that was asked for.
    pub interface: Option<Interface>,
    /// The names of all interfaces in the network namespace.
    pub interfaces: Vec<String>,
    /// The addresses of all interfaces in the network namespace.
    pub addresses: Vec<HostAddress>,
    /// Ports of this host's sockets that wait for connections or datagrams.
    pub listeners: Option<Vec<Listener>>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// The `wirepath` that looked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// Whether it was built with AF_XDP (cargo feature `xdp`).
    pub has_xdp: bool,
}

/// Something that could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The machine, as far as this process sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The kernel's release, as `uname -r` shows it.
    pub kernel: Option<String>,
    /// What socket(AF_XDP) said.
    pub socket: Option<SocketTrial>,
    /// Whether the kernel describes its types (/sys/kernel/btf/vmlinux).
    pub has_btf: Option<bool>,
    /// net.core.bpf_jit_enable.
    pub bpf_jit: Option<u32>,
    /// kernel.unprivileged_bpf_disabled.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// This process.
    pub process: Process,
    /// The processors that are online.
    pub cpus: Vec<u32>,
    /// The processors of each NUMA node.
    pub nodes: BTreeMap<u32, Vec<u32>>,
    /// Pages of 2 MiB.
    pub huge_pages: Option<HugePages>,
    /// Memory that can be had without swapping, bytes.
    pub memory_available: Option<u64>,
    /// Whether irqbalance runs.
    pub irqbalance_runs: Option<bool>,
}

/// What the kernel said to `socket(AF_XDP, SOCK_RAW)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketTrial {
    /// A socket.
    Works,
    /// EAFNOSUPPORT: a kernel without CONFIG_XDP_SOCKETS.
    NotInKernel,
    /// EPERM: no CAP_NET_RAW, or a filter of system calls.
    Refused,
}

/// The rights of this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its effective user.
    pub user: Option<u32>,
    /// Its effective capabilities (capabilities(7)), as a set of bits.
    pub capabilities: Option<u64>,
    /// RLIMIT_MEMLOCK in bytes; `None` is no limit.
    pub memlock: Option<u64>,
    /// Whether its user namespace is the machine's first.
    pub in_first_user_namespace: Option<bool>,
    /// Whether a filter of system calls (seccomp) is on it.
    pub is_filtered: Option<bool>,
    /// The kind of container, when it shows.
    pub container: Option<String>,
}

/// Pages of 2 MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugePages {
    /// How many there are.
    pub total: u64,
    /// How many are not in use.
    pub free: u64,
}

/// An address that an interface of the host has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostAddress {
    /// The address.
    pub addr: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The interface.
    pub interface: String,
}

/// A socket that waits at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address; unspecified for all.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// What rtnetlink says of it.
    pub link: Link,
    /// The kernel driver.
    pub driver: Option<String>,
    /// The driver's own version, which drivers of the kernel's tree lack.
    pub driver_version: Option<String>,
    /// The NUMA node that it is at; `None` also where the machine has no nodes.
    pub numa_node: Option<u32>,
    /// What the driver says of its XDP (netdev netlink family).
    pub xdp: Option<XdpFeatures>,
    /// Offloads and other features (`ethtool -k`), by the kernel's names.
    pub features: Option<BTreeMap<String, Feature>>,
    /// Flags of the driver's own (`ethtool --show-priv-flags`).
    pub private_flags: Option<BTreeMap<String, bool>>,
    /// `ethtool -l`.
    pub channels: Option<Channels>,
    /// `ethtool -g`.
    pub rings: Option<Rings>,
    /// The receive queue of each entry of the indirection table (`ethtool -x`).
    pub rss_table: Option<Vec<u32>>,
    /// The receive queues.
    pub rx_queues: Option<Vec<RxQueue>>,
    /// The interrupts of its device, and the processors that take each.
    pub irqs: BTreeMap<u32, Vec<u32>>,
    /// How often in a row a queue may be polled in vain before its interrupt is
    /// turned on again (`napi_defer_hard_irqs`).
    pub defer_hard_irqs: Option<u64>,
    /// How long it stays off at most, nanoseconds (`gro_flush_timeout`).
    pub gro_flush_timeout: Option<u64>,
    /// Virtual functions that are on (SR-IOV).
    pub virtual_functions: Option<u32>,
    /// The far end, of a veth.
    pub peer: Option<Peer>,
    /// VLAN interfaces on top of it.
    pub vlans: Vec<String>,
    /// The bond or bridge that it is part of.
    pub master: Option<Master>,
}

/// What rtnetlink says of an interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, when it is made by software: `veth`, `bond`, `vlan`, …
    pub kind: Option<String>,
    /// Its Ethernet address; `None` for one of another link layer.
    pub mac: Option<String>,
    /// The largest packet behind the Ethernet header, bytes.
    pub mtu: u32,
    /// Whether it is up (`IFF_UP`).
    pub is_up: bool,
    /// Whether the cable has a carrier.
    pub has_carrier: bool,
    /// Receive queues that it was made with.
    pub rx_queues: u32,
    /// Transmit queues that it was made with.
    pub tx_queues: u32,
    /// Programs attached to it.
    pub programs: Vec<Program>,
    /// The bus that its device is on, and its name there.
    pub device: Option<(String, String)>,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its id.
    pub id: u32,
    /// Where it runs.
    pub mode: Mode,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In the driver (native).
    Driver,
    /// In the network stack (generic).
    Generic,
    /// On the NIC.
    Hardware,
}

/// The master of an interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Master {
    /// Its name.
    pub name: String,
    /// Its kind: `bond`, `bridge`, …
    pub kind: Option<String>,
    /// Programs attached to it.
    pub programs: Vec<Program>,
}

/// What a driver says of its XDP (`NETDEV_A_DEV_*`,
/// Documentation/netlink/specs/netdev.yaml of the kernel).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct XdpFeatures {
    /// Runs a program in the driver (`NETDEV_XDP_ACT_BASIC`).
    pub basic: bool,
    /// Redirects, which AF_XDP needs (`NETDEV_XDP_ACT_REDIRECT`).
    pub redirect: bool,
    /// Lets AF_XDP share its buffers (`NETDEV_XDP_ACT_XSK_ZEROCOPY`).
    pub zero_copy: bool,
    /// Takes frames of several buffers (`NETDEV_XDP_ACT_RX_SG`).
    pub rx_sg: bool,
    /// Buffers a frame may have with zero-copy.
    pub zero_copy_segments: Option<u32>,
}

/// A feature of `ethtool -k`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feature {
    /// Whether it is on.
    pub on: bool,
    /// Whether it cannot be changed.
    pub fixed: bool,
}

/// `ethtool -l`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channels {
    /// Channels that receive and send.
    pub combined: u32,
    /// Channels that only receive.
    pub rx: u32,
    /// Channels that only send.
    pub tx: u32,
    /// The most of `combined`.
    pub combined_max: u32,
    /// The most of `rx`.
    pub rx_max: u32,
    /// The most of `tx`.
    pub tx_max: u32,
}

impl Channels {
    /// Receive queues.
    pub fn receiving(&self) -> u32 {
        self.combined + self.rx
    }

    /// Transmit queues.
    pub fn sending(&self) -> u32 {
        self.combined + self.tx
    }
}

/// `ethtool -g`, frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rings {
    /// The receive ring.
    pub rx: u32,
    /// The most of it.
    pub rx_max: u32,
    /// The transmit ring.
    pub tx: u32,
    /// The most of it.
    pub tx_max: u32,
}

/// A receive queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RxQueue {
    /// Its number.
    pub id: u32,
    /// Whether an AF_XDP socket has it already.
    pub has_xsk: bool,
    /// Its interrupt.
    pub irq: Option<u32>,
}

/// The far end of a veth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Its name, where it shows.
    pub name: Option<String>,
    /// Whether it is in the network namespace that was looked at.
    pub is_here: bool,
    /// The name of the namespace that it is in, when it is another.
    pub namespace: Option<String>,
    /// Its largest packet, bytes.
    pub mtu: Option<u32>,
    /// Its transmit queues that are in use.
    pub tx_queues: Option<u32>,
    /// Its features.
    pub features: Option<BTreeMap<String, Feature>>,
}
