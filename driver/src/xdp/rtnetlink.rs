//! Asking the kernel about interfaces and addresses (rtnetlink(7)).
//!
//! Only the attributes that are needed are read, and those that are unknown or
//! of an unexpected length are left out: a driver or kernel newer than this
//! program must not keep it from starting. That is why the messages are not
//! decoded whole by netlink-packet-route, which refuses a message for one
//! attribute that it does not understand.

use std::io;

use netlink_packet_core::{NLA_TYPE_MASK, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `struct nlmsghdr`: length, type, flags, number, sender.
const HEADER: usize = 16;
const FLAG_REQUEST: u16 = 0x001;
const FLAG_ACK: u16 = 0x004;
/// Of an error: the request's payload is not repeated (`NLM_F_CAPPED`).
const FLAG_CAPPED: u16 = 0x100;
/// Of an error: attributes follow (`NLM_F_ACK_TLVS`).
const FLAG_ACK_TLVS: u16 = 0x200;
/// Every object (`NLM_F_DUMP`).
pub const FLAG_DUMP: u16 = 0x300;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const ACK_TEXT: u16 = 1;

/// An attribute: its type and its bytes.
pub type Attribute = (u16, Vec<u8>);

/// What the kernel answered with: no, and sometimes why.
#[derive(Debug)]
pub struct Refusal {
    /// The number.
    pub error: io::Error,
    /// The kernel's or the driver's own words («extended ack»).
    pub words: Option<String>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal { error, words: None }
    }
}

/// A socket to ask with. It is of the network namespace of the thread that
/// opened it.
#[derive(Debug)]
pub struct Rtnetlink(Socket);

impl Rtnetlink {
    /// Opens it.
    pub fn open() -> io::Result<Rtnetlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without its words an error still has its number.
        let _ = socket.set_ext_ack(true);
        Ok(Rtnetlink(socket))
    }

    /// Sends one request and gives the payloads of the answers.
    pub fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let len = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend_from_slice(&len.to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        let dump = flags & FLAG_DUMP == FLAG_DUMP;
        let flags = FLAG_REQUEST | flags | if dump { 0 } else { FLAG_ACK };
        request.extend_from_slice(&flags.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(body);
        self.0.send(&request, 0)?;
        self.answers()
    }

    /// Everything up to the end of a dump, or to the yes or no.
    fn answers(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut payloads = Vec::new();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some((message, after)) = split(rest) {
                rest = after;
                match message.kind {
                    TYPE_DONE => return Ok(payloads),
                    TYPE_ERROR => return verdict(&message).map(|()| payloads),
                    _ => payloads.push(message.payload.to_vec()),
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

/// The first message of a datagram, and what is behind it.
fn split(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    let payload = bytes.get(HEADER..len)?;
    let message = Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        payload,
    };
    let next = len.next_multiple_of(4).min(bytes.len());
    Some((message, &bytes[next..]))
}

/// A yes, or a no with its words.
fn verdict(message: &Message<'_>) -> Result<(), Refusal> {
    let code = u32_at(message.payload, 0).unwrap_or(0).cast_signed();
    if code == 0 {
        return Ok(());
    }
    Err(Refusal {
        error: io::Error::from_raw_os_error(-code),
        words: words(message),
    })
}

/// The text behind the repeated request (Documentation/userspace-api/netlink).
fn words(message: &Message<'_>) -> Option<String> {
    if message.flags & FLAG_ACK_TLVS == 0 {
        return None;
    }
    let repeated = if message.flags & FLAG_CAPPED == 0 {
        u32_at(message.payload, 4)? as usize
    } else {
        HEADER
    };
    let attributes = attributes(message.payload.get(4 + repeated..)?);
    let text = find(&attributes, ACK_TEXT)?;
    let text = String::from_utf8_lossy(text);
    Some(text.trim_end_matches('\0').to_owned())
}

/// The attributes in `bytes`, up to the first that is cut.
pub fn attributes(bytes: &[u8]) -> Vec<Attribute> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|nla| (nla.kind() & NLA_TYPE_MASK, nla.value().to_vec()))
        .collect()
}

/// The bytes of the first attribute of this type.
pub fn find(attributes: &[Attribute], kind: u16) -> Option<&[u8]> {
    let found = attributes.iter().find(|(k, _)| *k == kind);
    found.map(|(_, value)| value.as_slice())
}

/// Appends an attribute.
pub fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = 4 + value.len();
    body.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A number of four bytes in the machine's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}
