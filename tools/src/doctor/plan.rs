//! What the operator means to start, as far as it changes the judgement.
//!
//! The options are those of `serve --xdp`, with the same names and forms.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wirepath_stack::Cidr;

/// Bytes before each frame that XDP programs may write to
/// (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h): the kernel leaves them
/// free in each slot.
pub const XDP_HEADROOM: u32 = 256;

/// Bytes that a slot can have.
pub const FRAME_LENS: [u32; 2] = [2048, 4096];

/// Where `serve` listens unless told otherwise.
const DEFAULT_PORT: u16 = 8080;

/// An Ethernet header and one VLAN tag, bytes.
const HEADER_LEN: u32 = 14 + 4;

/// Options of `serve --xdp`, to be judged before it is started.
#[derive(Debug, Clone, Args)]
pub struct PlanOptions {
    /// The receive queues to serve on, as 0-3 or 2; by default all.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_queues)]
    queues: Option<RangeInclusive<u32>>,
    /// Where the program is to run.
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// How frames are to reach the server.
    #[arg(long, value_enum, default_value_t = Bind::Auto)]
    bind: Bind,
    /// Frames of memory for each queue.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    frames: u32,
    /// Bytes of memory for each frame, 2048 or 4096 [default: the least that
    /// the MTU fits].
    #[arg(long, value_name = "BYTES", value_parser = parse_frame_len)]
    frame_len: Option<u32>,
    /// Frames in each ring.
    #[arg(long, value_name = "N", default_value_t = 2048)]
    ring_len: u32,
    /// Busy polling: microseconds, and frames at a time.
    #[arg(long, value_name = "USECS[:BUDGET]", value_parser = parse_busy_poll)]
    busy_poll: Option<BusyPoll>,
    /// Memory of 2 MiB pages.
    #[arg(long)]
    huge_pages: bool,
    /// An address of the server, up to 8 times.
    #[arg(long = "addr", value_name = "ADDR/PREFIX")]
    addrs: Vec<Cidr>,
    /// The server shares the host's addresses, and takes only --ports.
    #[arg(long)]
    share_host: bool,
    /// The ports of the server, as 80,443,8000-8010; with --share-host 8080,
    /// where `serve` listens, by default.
    #[arg(long, value_name = "LIST", value_parser = parse_ports)]
    ports: Option<Ports>,
}

/// Ports.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports(Vec<u16>);

/// Where the XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// In the driver, or else in the network stack.
    Auto,
    /// In the driver (native).
    Driver,
    /// In the network stack (generic).
    Generic,
}

/// How frames reach the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bind {
    /// As the kernel chooses.
    Auto,
    /// Copied.
    Copy,
    /// Written by the NIC.
    #[value(name = "zerocopy")]
    ZeroCopy,
}

/// Busy polling (socket(7), `SO_BUSY_POLL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BusyPoll {
    /// How long a call polls, microseconds.
    pub usecs: u32,
    /// Frames at a time.
    pub budget: u32,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The queues; `None` for all.
    pub queues: Option<RangeInclusive<u32>>,
    /// Where the program is to run.
    pub attach: Attach,
    /// How frames are to reach the server.
    pub bind: Bind,
    /// Frames of each queue.
    pub frames: u32,
    /// Bytes of each; `None` for the least that the MTU fits.
    pub frame_len: Option<u32>,
    /// Frames in each ring.
    pub ring_len: u32,
    /// Busy polling.
    pub busy_poll: Option<BusyPoll>,
    /// Whether the memory is of 2 MiB pages.
    pub huge_pages: bool,
    /// Addresses of the server's own.
    pub addrs: Vec<IpAddr>,
    /// Whether it shares the host's.
    pub share_host: bool,
    /// Its ports.
    pub ports: Vec<u16>,
}

impl Plan {
    /// The largest MTU whose frames fit into a slot, with a VLAN tag.
    pub fn largest_mtu(frame_len: u32) -> u32 {
        frame_len - XDP_HEADROOM - HEADER_LEN
    }

    /// Bytes of a frame on an interface with this MTU.
    pub fn frame_len(&self, mtu: u32) -> u32 {
        let least = FRAME_LENS
            .into_iter()
            .find(|len| mtu <= Plan::largest_mtu(*len));
        self.frame_len.or(least).unwrap_or(FRAME_LENS[1])
    }

    /// The memory of `queues` queues, bytes.
    pub fn memory(&self, queues: u32, mtu: u32) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_len(mtu)) * u64::from(queues)
    }
}

impl From<&PlanOptions> for Plan {
    fn from(options: &PlanOptions) -> Plan {
        Plan {
            queues: options.queues.clone(),
            attach: options.attach,
            bind: options.bind,
            frames: options.frames,
            frame_len: options.frame_len,
            ring_len: options.ring_len,
            busy_poll: options.busy_poll,
            huge_pages: options.huge_pages,
            addrs: options.addrs.iter().map(|cidr| cidr.addr).collect(),
            share_host: options.share_host,
            ports: match &options.ports {
                Some(ports) => ports.0.clone(),
                None if options.share_host => vec![DEFAULT_PORT],
                None => Vec::new(),
            },
        }
    }
}

/// `0-3`, `2`.
fn range<T: FromStr + PartialOrd>(text: &str) -> Option<RangeInclusive<T>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

fn parse_queues(text: &str) -> Result<RangeInclusive<u32>, String> {
    range(text).ok_or_else(|| "write queues as 0-3, or one as 2".into())
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    let ranges = text.split(',').map(range::<u16>);
    let ports: Option<Vec<_>> = ranges.collect();
    let ports = ports.ok_or("write ports as 80,443,8000-8010")?;
    Ok(Ports(ports.into_iter().flatten().collect()))
}

fn parse_frame_len(text: &str) -> Result<u32, String> {
    let len = text.parse().ok().filter(|len| FRAME_LENS.contains(len));
    len.ok_or_else(|| "a frame has 2048 or 4096 bytes".into())
}

/// Frames at a time where the option names none.
const BUSY_POLL_BUDGET: u32 = 64;

fn parse_busy_poll(text: &str) -> Result<BusyPoll, String> {
    let (usecs, budget) = match text.split_once(':') {
        Some((usecs, budget)) => (usecs.parse().ok(), budget.parse().ok()),
        None => (text.parse().ok(), Some(BUSY_POLL_BUDGET)),
    };
    let both = usecs.zip(budget);
    both.map(|(usecs, budget)| BusyPoll { usecs, budget })
        .ok_or_else(|| "write microseconds as 20, or with a budget as 20:64".into())
}
