//! Putting devices, capture and stack together: what `serve` and `demo` share.

use std::net::IpAddr;

use serde_json::{Map, Value};
use wirepath_driver::tap::{Tap, TapOptions};
use wirepath_driver::{Queue, QueueInfo};
use wirepath_stack::{Cidr, Config, MacAddr, Stack};

use crate::capture::live::{Live, Socket};
use crate::capture::{CaptureArgs, Prepared, Recording};
use crate::failure::Failure;

/// A TAP to attach a stack to.
pub struct TapRequest<'a> {
    /// The device.
    pub name: &'a str,
    /// Its queues.
    pub queues: u32,
    /// The stack's addresses.
    pub addrs: &'a [Cidr],
    /// Its next hops.
    pub gateways: &'a [IpAddr],
    /// Its Ethernet address, or else one made from the name.
    pub mac: Option<MacAddr>,
    /// What to capture.
    pub capture: &'a CaptureArgs,
}

/// Everything that takes a right to open, opened, and nothing running yet:
/// the moment to give rights up.
pub struct Opened {
    queues: Vec<Box<dyn Queue>>,
    config: Config,
    capture: Option<Prepared>,
    socket: Option<Socket>,
}

impl Opened {
    /// Queues for a stack of `config`, captured when `capture` says where to.
    pub fn new(
        queues: Vec<Box<dyn Queue>>,
        config: Config,
        capture: &CaptureArgs,
    ) -> Result<Opened, Failure> {
        Ok(Opened {
            queues,
            config,
            capture: capture.prepare()?,
            socket: None,
        })
    }

    /// Lets `wirepath capture` ask for captures of it while it runs, where there
    /// is a folder for that.
    pub fn can_be_asked(mut self) -> Opened {
        self.socket = Socket::open();
        self
    }

    /// Starts the capture's writer, and makes the stack.
    pub fn assemble(self) -> Result<Attachment, Failure> {
        let device = self.queues[0].info().clone();
        let mut queues = self.queues;
        let capture = self.capture.map(Prepared::start).transpose()?;
        if let Some(capture) = &capture {
            queues = queues.into_iter().map(|q| capture.wrap(q)).collect();
        }
        let serve = |socket: Socket| socket.serve().map_err(|e| Failure::setup(&e));
        let live = self.socket.map(serve).transpose()?;
        if let Some(live) = &live {
            queues = queues.into_iter().map(|q| live.wrap(q)).collect();
        }
        let stack = Stack::new(self.config, queues).map_err(|e| Failure::setup(&e))?;
        Ok(Attachment {
            stack,
            device,
            capture,
            _live: live,
        })
    }
}

/// A stack on its device.
pub struct Attachment {
    /// The stack.
    pub stack: Stack,
    /// The device's first queue, as it describes itself.
    pub device: QueueInfo,
    capture: Option<Recording>,
    _live: Option<Live>,
}

impl Attachment {
    /// Ends the capture, when there is one, says what is in it, and gives its
    /// name, if it is one file.
    pub fn finish(self) -> Result<Option<String>, Failure> {
        self.capture.map_or(Ok(None), Recording::finish)
    }
}

/// Opens a TAP for a stack.
pub fn open_tap(request: &TapRequest<'_>) -> Result<Opened, Failure> {
    let taps = Tap::open_queues(&TapOptions::new(request.name), request.queues)
        .map_err(|e| Failure::setup(&e))?;
    let mac = request.mac.unwrap_or_else(|| mac_for(request.name));
    let mut config = Config::new(mac, request.addrs.to_vec());
    config.gateways = request.gateways.to_vec();
    let queues = taps.into_iter().map(|tap| Box::new(tap) as Box<dyn Queue>);
    Opened::new(queues.collect(), config, request.capture)
}

/// A locally administered address that is the same at every start, so that
/// neighbours need not learn a new one (FNV-1a of the name).
pub fn mac_for(name: &str) -> MacAddr {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let [_, _, a, b, c, d, e, f] = hash.to_be_bytes();
    // Bit 1 of the first byte: locally administered; bit 0: a group.
    MacAddr([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// A JSON object of named numbers.
pub fn object(each: impl FnOnce(&mut dyn FnMut(&'static str, u64))) -> Value {
    let mut map = Map::new();
    each(&mut |name, value| {
        map.insert(name.to_owned(), value.into());
    });
    Value::Object(map)
}

/// As [`object`], of a list.
pub fn named(list: Vec<(&'static str, u64)>) -> Value {
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}
