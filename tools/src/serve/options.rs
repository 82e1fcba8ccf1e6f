//! What `wirepath serve` can be told, and how its values are written.
//!
//! Every option exists in every build, so that a script meets one message
//! rather than an unknown flag where AF_XDP was left out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wirepath_stack::{Cidr, MacAddr};

use super::recorder::RecorderArgs;
use crate::capture::CaptureArgs;
use crate::control::ControlPath;
use crate::device::impair::ImpairSpec;

/// Queues that one server takes at most: more than any card has today, and few
/// enough that a slip of the finger does not ask for the machine's memory.
const MAX_QUEUES: u32 = 256;

/// What an option of AF_XDP cannot be with. Said beside `requires`, which clap
/// waives where what is required conflicts with what is given.
const OTHERS: [&str; 2] = ["tap", "kernel"];

/// Options of `wirepath serve`.
#[derive(Args)]
pub struct Options {
    /// The TAP device to serve on: made if there is none, else taken if it is
    /// persistent and its owner is you.
    #[arg(long, value_name = "NAME")]
    pub tap: Option<String>,
    /// An address of the server with its network, up to 8 times. It is the
    /// server's alone, unless --share-host is given.
    #[arg(long = "addr", value_name = "ADDR/PREFIX")]
    pub addrs: Vec<Cidr>,
    /// Serve over the kernel's sockets instead of a device and a stack of its
    /// own, at a port of every address, or at one address and port; needs no
    /// rights. Port 0 takes a free one.
    #[arg(
        long,
        value_name = "[ADDR]:PORT",
        value_parser = parse_kernel_listen,
        conflicts_with_all = [
            "tap", "addrs", "listen", "gateways", "mac", "pcap", "queues", "user", "interface"
        ]
    )]
    pub kernel: Option<SocketAddr>,
    /// Where to listen: a port of every address, or one address and port.
    #[arg(long, value_name = "[ADDR]:PORT", default_value = ":8080", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// The next hop for what no network covers, one for each family.
    #[arg(long = "gateway", value_name = "ADDR")]
    pub gateways: Vec<IpAddr>,
    /// The server's Ethernet address; by default the interface's own with
    /// --xdp, and one made from the device's name with --tap.
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// The device's queues to serve on, each with a shard of its own: `0-3`, or
    /// one as `0`. By default all of the interface with --xdp, and one with
    /// --tap, whose queues count from 0.
    #[arg(long, value_name = "FIRST-LAST")]
    pub queues: Option<QueueRange>,
    /// Threads that run goroutines at a time; by default WIREPATH_MAXPROCS, or
    /// one for each queue with --xdp, or the cores that the process may use.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub maxprocs: Option<u16>,
    /// Serve the files of this directory instead of the demo site.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Show the path live at /debug/wirepath/ (the default but with --xdp).
    #[arg(long, overrides_with = "no_debug_page")]
    pub debug_page: bool,
    /// Do not show it (the default with --xdp).
    #[arg(long, overrides_with = "debug_page")]
    pub no_debug_page: bool,
    /// Answer GET /metrics in OpenMetrics text, as Prometheus reads it: how long
    /// handlers took, by route, and the counters of server, runtime and frames.
    #[arg(long)]
    pub metrics: bool,
    /// Who sees the pages below /debug/ and /metrics, as 192.0.2.0/24; again for
    /// more. By default loopback, private and link-local addresses.
    #[arg(long, value_name = "ADDR/PREFIX")]
    pub debug_from: Vec<Cidr>,
    /// Lose, delay and reorder frames on purpose, by chance but the same each
    /// time: `loss=1%,delay=5ms,jitter=1ms,reorder=1%,duplicate=1%,corrupt=0.1%,rate=10mbit,seed=7`;
    /// `rx.loss=1%` is that of received frames only. For tests and for teaching,
    /// on a TAP.
    #[arg(long, value_name = "SPEC", conflicts_with_all = ["kernel", "interface"])]
    pub impair: Option<ImpairSpec>,
    /// Become this user once the device is open, when started as root.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Where `wirepath top`, `ss` and `goroutines` ask the server: the path of a
    /// Unix socket, or `off`. By default PID.sock in $XDG_RUNTIME_DIR/wirepath,
    /// or in /run/wirepath for root.
    #[arg(long, value_name = "PATH|off")]
    pub control: Option<ControlPath>,
    /// What is captured.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// The flight recorder.
    #[command(flatten)]
    pub recorder: RecorderArgs,
    /// What is of AF_XDP alone.
    #[command(flatten)]
    pub xdp: XdpArgs,
}

impl Options {
    /// Whether the path is shown live. A card faces people whom nobody chose, so
    /// there it has to be asked for.
    pub fn shows_page(&self) -> bool {
        self.debug_page || (!self.no_debug_page && self.xdp.interface.is_none())
    }
}

/// Options of `wirepath serve --xdp`.
#[derive(Args)]
#[command(next_help_heading = "AF_XDP (see docs/af-xdp.md)")]
pub struct XdpArgs {
    /// The network interface to serve on: its queues' frames for the server's
    /// own addresses and ports come here, all else goes on to the kernel.
    #[arg(long = "xdp", value_name = "INTERFACE", conflicts_with = "tap")]
    pub interface: Option<String>,
    /// Share the host's addresses of that interface, or those of them given
    /// with --addr: only --ports come here, and ARP, NDP and ICMP stay the
    /// kernel's.
    #[arg(long, requires = "interface", conflicts_with_all = OTHERS)]
    pub share_host: bool,
    /// The TCP and UDP ports that come here, as 80,443,8000-8010. By default
    /// all of an address that is the server's alone, and the port of --listen
    /// of one that is the host's.
    #[arg(long, value_name = "LIST", requires = "interface", conflicts_with_all = OTHERS)]
    pub ports: Option<PortList>,
    /// Where the filter program runs. `auto` takes the driver, or else the
    /// kernel's generic hook, and says which.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        requires = "interface", conflicts_with_all = OTHERS
    )]
    pub attach: Attach,
    /// Whether the card writes into the server's memory itself. `auto` takes
    /// what the kernel gives and says which.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        requires = "interface", conflicts_with_all = OTHERS
    )]
    pub bind: Bind,
    /// Frames of memory for each queue.
    #[arg(long, value_name = "N", default_value_t = 4096, requires = "interface", conflicts_with_all = OTHERS)]
    pub frames: u32,
    /// Bytes of a frame's memory, 2048 or 4096, of which the kernel keeps 256
    /// [default: the least that the MTU fits].
    #[arg(long, value_name = "BYTES", value_parser = parse_frame_len, requires = "interface", conflicts_with_all = OTHERS)]
    pub frame_len: Option<u32>,
    /// Entries of each of a queue's four rings, a power of two.
    #[arg(
        long,
        value_name = "N",
        default_value = "2048",
        value_parser = parse_ring_len,
        requires = "interface", conflicts_with_all = OTHERS
    )]
    pub ring_len: u32,
    /// Poll the card from the server's own calls, for so many microseconds and
    /// so many frames (64 unless given) at a time: more speed, and a core that
    /// is never idle.
    #[arg(long, value_name = "USECS[:BUDGET]", requires = "interface", conflicts_with_all = OTHERS)]
    pub busy_poll: Option<BusyPollArg>,
    /// Take the frames' memory as huge pages, which must be reserved.
    #[arg(long, requires = "interface", conflicts_with_all = OTHERS)]
    pub huge_pages: bool,
}

/// Where the filter program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// In the driver, or else as `generic`.
    Auto,
    /// In the driver, before the kernel makes a packet of a frame.
    Driver,
    /// In the kernel's network core: works everywhere, and is slower.
    Generic,
}

/// How frames get between the card and the server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bind {
    /// As the kernel chooses.
    Auto,
    /// The kernel copies each frame.
    Copy,
    /// The card reads and writes the memory.
    #[value(name = "zerocopy")]
    ZeroCopy,
}

/// A range of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRange(pub RangeInclusive<u32>);

impl FromStr for QueueRange {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueRange, String> {
        let (first, last) = range(text)
            .ok_or_else(|| "write queues as 0-3, or one as 0, the first being 0".to_owned())?;
        if last - first >= MAX_QUEUES {
            return Err(format!("a server takes {MAX_QUEUES} queues at most"));
        }
        Ok(QueueRange(first..=last))
    }
}

/// Ports, ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

impl FromStr for PortList {
    type Err = String;

    fn from_str(text: &str) -> Result<PortList, String> {
        let mut ports = Vec::new();
        for part in text.split(',') {
            let (first, last) = range::<u16>(part)
                .filter(|(first, _)| *first != 0)
                .ok_or_else(|| {
                    format!("«{part}» is no port or range of them; write 80,443,8000-8010")
                })?;
            ports.extend(first..=last);
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(PortList(ports))
    }
}

/// `7`, or `7-9` with the first no more than the last.
fn range<T: FromStr + PartialOrd + Copy>(text: &str) -> Option<(T, T)> {
    // `parse` would take a sign.
    let number = |text: &str| -> Option<T> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// How to busy-poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BusyPollArg {
    /// Microseconds that a call polls for at most (`SO_BUSY_POLL`).
    pub usecs: u32,
    /// Frames that a call takes at most (`SO_BUSY_POLL_BUDGET`).
    pub budget: u32,
}

/// Frames that the kernel takes in a poll unless told otherwise
/// (`NAPI_POLL_WEIGHT`).
const BUSY_POLL_BUDGET: u32 = 64;

impl FromStr for BusyPollArg {
    type Err = String;

    fn from_str(text: &str) -> Result<BusyPollArg, String> {
        let form = || {
            "write microseconds from 1 to 1000000, and frames a poll from 1 to 65535 behind a colon: 20, or 20:64".to_owned()
        };
        let (usecs, budget) = match text.split_once(':') {
            Some((usecs, budget)) => (usecs, budget.parse().ok()),
            None => (text, Some(BUSY_POLL_BUDGET)),
        };
        let usecs = usecs.parse().ok().filter(|n| (1..=1_000_000).contains(n));
        // The socket option is a u16 in the kernel (`sk_busy_poll_budget`).
        let budget = budget.filter(|n| (1..=65_535).contains(n));
        let (usecs, budget) = usecs.zip(budget).ok_or_else(form)?;
        Ok(BusyPollArg { usecs, budget })
    }
}

/// `2048` or `4096`.
pub fn parse_frame_len(text: &str) -> Result<u32, String> {
    match text {
        "2048" => Ok(2048),
        "4096" => Ok(4096),
        _ => Err("a frame has 2048 or 4096 bytes (a page at most)".into()),
    }
}

/// A power of two.
pub fn parse_ring_len(text: &str) -> Result<u32, String> {
    let len = text.parse().ok();
    len.filter(|len: &u32| len.is_power_of_two() && (64..=32_768).contains(len))
        .ok_or_else(|| "a ring has a power of two of entries, from 64 to 32768".into())
}

/// `:8080`, `10.0.0.2:80`, `[fd00::2]:80`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let given = parse_kernel_listen(text)?;
    let given = Some(given).filter(|addr| addr.port() != 0);
    given.ok_or_else(|| LISTEN_FORM.into())
}

const LISTEN_FORM: &str = "write a port as :8080, or an address and a port as 10.0.0.2:8080";

/// As [`parse_listen`], or `:0` for a free port.
pub fn parse_kernel_listen(text: &str) -> Result<SocketAddr, String> {
    let given = match text.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .map(|p| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), p)),
        None => text.parse().ok(),
    };
    given.ok_or_else(|| LISTEN_FORM.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let words = ["serve"].into_iter().chain(line.split_whitespace());
        let parsed = Command::try_parse_from(words);
        parsed.map(|c| c.options).map_err(|e| e.to_string())
    }

    #[test]
    fn listen_takes_a_port_or_an_address() {
        assert_eq!(parse_listen(":80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(parse_listen("[fd00::2]:80").unwrap().port(), 80);
        for bad in ["", ":", "80", ":99999", "host:80", ":0"] {
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_kernel_listen(":0").unwrap().port(), 0);
    }

    #[test]
    fn queues_are_one_or_a_range() {
        for (text, want) in [
            ("0", Some(0..=0)),
            ("0-3", Some(0..=3)),
            ("5", Some(5..=5)),
            ("4-7", Some(4..=7)),
            ("0-255", Some(0..=255)),
            ("0-256", None),
            ("0-4294967295", None),
            ("3-0", None),
            ("", None),
            ("-", None),
            ("0-", None),
            ("-1", None),
            ("+1", None),
            ("0-1-2", None),
            ("0,1", None),
            ("all", None),
            ("99999999999", None),
        ] {
            let got = text.parse::<QueueRange>().ok().map(|range| range.0);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn ports_are_a_list_of_ranges() {
        for (text, want) in [
            ("80", Some(vec![80])),
            ("443,80", Some(vec![80, 443])),
            ("80,443,8000-8002", Some(vec![80, 443, 8000, 8001, 8002])),
            ("80,79-81", Some(vec![79, 80, 81])),
            ("65535", Some(vec![65535])),
            ("65536", None),
            ("0", None),
            ("0-5", None),
            ("80,", None),
            ("", None),
            ("81-80", None),
            ("http", None),
            ("80 443", None),
        ] {
            let got = text.parse::<PortList>().ok().map(|list| list.0);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn busy_polling_has_a_time_and_perhaps_a_budget() {
        for (text, want) in [
            ("20", Some((20, 64))),
            ("50:16", Some((50, 16))),
            ("0", None),
            ("50:0", None),
            ("50:65536", None),
            ("50:", None),
            (":16", None),
            ("2000000", None),
            ("soon", None),
        ] {
            let got = text.parse::<BusyPollArg>().ok();
            assert_eq!(got.map(|b| (b.usecs, b.budget)), want, "{text}");
        }
    }

    #[test]
    fn a_line_of_af_xdp_is_understood() {
        let options = parse(
            "--xdp eth0 --queues 0-3 --attach driver --bind zerocopy --frames 8192 --frame-len \
             4096 --ring-len 1024 --busy-poll 20:64 --huge-pages --share-host --ports 80,443 \
             --listen :80 --user www",
        )
        .unwrap();
        let xdp = options.xdp;
        assert_eq!(xdp.interface.as_deref(), Some("eth0"));
        assert_eq!(options.queues, Some(QueueRange(0..=3)));
        assert_eq!((xdp.attach, xdp.bind), (Attach::Driver, Bind::ZeroCopy));
        assert_eq!((xdp.frames, xdp.frame_len), (8192, Some(4096)));
        assert_eq!(xdp.ring_len, 1024);
        assert!(xdp.huge_pages && xdp.share_host);
        assert_eq!(xdp.ports, Some(PortList(vec![80, 443])));
        assert_eq!(options.user.as_deref(), Some("www"));
    }

    #[test]
    fn a_card_shows_the_page_when_asked_and_others_unless_asked_not_to() {
        for (line, want) in [
            ("--tap wp0", true),
            ("--kernel :0", true),
            ("--tap wp0 --no-debug-page", false),
            ("--xdp eth0", false),
            ("--xdp eth0 --debug-page", true),
            ("--xdp eth0 --debug-page --no-debug-page", false),
            ("--tap wp0 --no-debug-page --debug-page", true),
        ] {
            assert_eq!(parse(line).unwrap().shows_page(), want, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_together_is_refused() {
        for (line, culprit) in [
            ("--tap wp0 --xdp eth0 --addr 10.0.0.2/24", "--xdp"),
            ("--kernel :80 --xdp eth0", "--xdp"),
            ("--kernel :80 --queues 0", "--queues"),
            ("--kernel :80 --user www", "--user"),
            ("--tap wp0 --share-host", "--tap"),
            ("--tap wp0 --ports 80", "--tap"),
            ("--tap wp0 --attach driver", "--tap"),
            ("--tap wp0 --bind copy", "--tap"),
            ("--tap wp0 --frames 10", "--tap"),
            ("--tap wp0 --frame-len 4096", "--tap"),
            ("--tap wp0 --ring-len 1024", "--tap"),
            ("--tap wp0 --busy-poll 20", "--tap"),
            ("--tap wp0 --huge-pages", "--tap"),
            ("--kernel :80 --share-host", "--kernel"),
            ("--addr 10.0.0.2/24 --ports 80", "--xdp"),
            ("--xdp eth0 --queues 3-0", "--queues"),
            ("--xdp eth0 --ports 0", "--ports"),
            ("--xdp eth0 --attach native", "--attach"),
            ("--xdp eth0 --bind zero", "--bind"),
            ("--xdp eth0 --frame-len 9000", "--frame-len"),
            ("--xdp eth0 --ring-len 1000", "--ring-len"),
            ("--xdp eth0 --ring-len 32", "--ring-len"),
            ("--xdp eth0 --frames many", "--frames"),
            ("--xdp eth0 --busy-poll 0", "--busy-poll"),
        ] {
            let Err(said) = parse(line) else {
                panic!("{line} was taken");
            };
            assert!(said.contains(culprit), "{line}: {said}");
        }
    }
}
