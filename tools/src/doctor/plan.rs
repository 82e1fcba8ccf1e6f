//! What the operator means to start, as far as it changes the judgement.
//!
//! The options are those of `serve --xdp`, with the same names and forms.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use clap::Args;
use serde::Serialize;
use wirepath_stack::Cidr;

pub use crate::serve::options::{Attach, Bind};
use crate::serve::options::{
    BusyPollArg, PortList, QueueRange, parse_frame_len, parse_listen, parse_ring_len,
};

/// Bytes before each frame that XDP programs may write to
/// (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h): the kernel leaves them
/// free in each slot.
const XDP_HEADROOM: u32 = 256;

/// Bytes that a slot can have.
const FRAME_LENS: [u32; 2] = [2048, 4096];

/// An Ethernet header and one VLAN tag, bytes.
const HEADER_LEN: u32 = 14 + 4;

/// Options of `serve --xdp`, to be judged before it is started.
#[derive(Debug, Clone, Args)]
pub struct PlanOptions {
    /// The receive queues to serve on, as 0-3 or 2; by default all.
    #[arg(long, value_name = "FIRST-LAST")]
    queues: Option<QueueRange>,
    /// Where the program is to run.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    attach: Attach,
    /// How frames are to reach the server.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    bind: Bind,
    /// Frames of memory for each queue.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    frames: u32,
    /// Bytes of memory for each frame, 2048 or 4096 [default: the least that
    /// the MTU fits].
    #[arg(long, value_name = "BYTES", value_parser = parse_frame_len)]
    frame_len: Option<u32>,
    /// Entries of each ring.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = parse_ring_len)]
    ring_len: u32,
    /// Busy polling: microseconds, and frames at a time.
    #[arg(long, value_name = "USECS[:BUDGET]")]
    busy_poll: Option<BusyPollArg>,
    /// Memory of 2 MiB pages.
    #[arg(long)]
    huge_pages: bool,
    /// An address of the server, up to 8 times.
    #[arg(long = "addr", value_name = "ADDR/PREFIX")]
    addrs: Vec<Cidr>,
    /// The server shares the host's addresses, and takes only --ports.
    #[arg(long)]
    share_host: bool,
    /// The ports of the server, as 80,443,8000-8010; with --share-host that of
    /// --listen by default.
    #[arg(long, value_name = "LIST")]
    ports: Option<PortList>,
    /// Where the server is to listen.
    #[arg(long, value_name = "[ADDR]:PORT", default_value = ":8080", value_parser = parse_listen)]
    listen: SocketAddr,
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
    /// Entries of each ring.
    pub ring_len: u32,
    /// Busy polling.
    pub busy_poll: Option<BusyPollArg>,
    /// Whether the memory is of 2 MiB pages.
    pub huge_pages: bool,
    /// Addresses of the server.
    pub addrs: Vec<IpAddr>,
    /// Whether they are the host's too.
    pub share_host: bool,
    /// The ports of shared addresses.
    pub ports: Vec<u16>,
}

impl Plan {
    /// The largest MTU whose frames fit into a slot, with a VLAN tag.
    pub fn largest_mtu(frame_len: u32) -> u32 {
        frame_len - XDP_HEADROOM - HEADER_LEN
    }

    /// Bytes of a frame on an interface with this MTU.
    pub fn frame_len(&self, mtu: u32) -> u32 {
        let fits = |len: &u32| mtu <= Plan::largest_mtu(*len);
        let least = FRAME_LENS.into_iter().find(fits);
        self.frame_len.or(least).unwrap_or(FRAME_LENS[1])
    }

    /// The memory of `queues` queues, bytes.
    pub fn memory(&self, queues: u32, mtu: u32) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_len(mtu)) * u64::from(queues)
    }
}

impl From<&PlanOptions> for Plan {
    fn from(options: &PlanOptions) -> Plan {
        let listen = options.listen.port();
        let ports = options.ports.as_ref();
        Plan {
            queues: options.queues.as_ref().map(|queues| queues.0.clone()),
            attach: options.attach,
            bind: options.bind,
            frames: options.frames,
            frame_len: options.frame_len,
            ring_len: options.ring_len,
            busy_poll: options.busy_poll,
            huge_pages: options.huge_pages,
            addrs: options.addrs.iter().map(|cidr| cidr.addr).collect(),
            share_host: options.share_host,
            ports: ports.map_or_else(|| vec![listen], |ports| ports.0.clone()),
        }
    }
}
