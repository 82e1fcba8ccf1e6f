//! Putting devices, capture and stack together: what `serve` and `demo` share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use wirepath_driver::capture::FrameRing;
use wirepath_driver::tap::{Tap, TapOptions};
use wirepath_driver::{Queue, QueueInfo};
use wirepath_stack::{Cidr, Config, MacAddr, Stack};

use crate::capture::live::{Live, Socket};
use crate::capture::{CaptureArgs, Prepared, Recording};
use crate::failure::Failure;
use impair::ImpairSpec;

pub mod impair;

/// Of a frame that is kept in memory, all: a super-frame's length.
const SNAP_LEN: usize = 65_536 + 64;

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
    /// What to do to frames on purpose.
    pub impair: Option<&'a ImpairSpec>,
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
    frames: Option<FrameRing>,
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
            frames: None,
        })
    }

    /// Keeps the last frames in memory, as many as fit `bytes`.
    pub fn keep_frames(mut self, bytes: Option<usize>) -> Result<Opened, Failure> {
        let ring = |bytes| FrameRing::new(bytes, SNAP_LEN).map_err(|e| Failure::setup(&e));
        self.frames = bytes.map(ring).transpose()?;
        Ok(self)
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
        if let Some(frames) = &self.frames {
            queues = queues
                .into_iter()
                .map(|q| Box::new(frames.wrap(q)) as Box<dyn Queue>)
                .collect();
        }
        let stack = Stack::new(self.config, queues).map_err(|e| Failure::setup(&e))?;
        Ok(Attachment {
            stack,
            device,
            capture,
            frames: self.frames.map(|ring| Arc::new(Mutex::new(ring))),
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
    /// The last frames, if they are kept.
    pub frames: Option<Arc<Mutex<FrameRing>>>,
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
    let mut queues: Vec<Box<dyn Queue>> = Vec::new();
    for (number, tap) in taps.into_iter().enumerate() {
        // Below the capture, which then shows what the stack saw and sent.
        let tap: Box<dyn Queue> = Box::new(tap);
        queues.push(match request.impair {
            Some(spec) => spec.wrap(tap, number),
            None => tap,
        });
    }
    Opened::new(queues, config, request.capture)
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
