//! The acknowledgements of a captured client, beside what is sent now.
//!
//! When a goroutine writes, and when it was woken to, is chance on a real
//! machine. So at the moment of a captured acknowledgement the stack may have sent
//! a little less than it had then. It would take such a segment for forged and
//! drop it, with its data (RFC 9293 §3.10.7.4), and the connection would stand
//! still. Hence a client acknowledges now what was sent, and the rest of what it
//! had as soon as that is sent too. The edge of its window stays where it was.

use super::frames;
use crate::inspect::packet::Tcp;

/// A client's acknowledgements.
#[derive(Debug, Default)]
pub struct Acks {
    window_scale: u8,
    /// The last that it sent.
    last: Option<u32>,
    owed: Option<Owed>,
    /// Behind all that the server has sent.
    sent: Option<u32>,
}

/// Something that was acknowledged and is not sent yet.
#[derive(Debug)]
struct Owed {
    ack: u32,
    window: u16,
    /// The client's next number.
    seq: u32,
    /// The frame that it is said with, changed.
    frame: Vec<u8>,
}

/// How a segment fits what was sent.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    /// As it is.
    As,
    /// With this instead.
    Less {
        /// The acknowledgement.
        ack: u32,
        /// The window.
        window: u16,
        /// It says nothing more: two of the same would be taken for a loss.
        is_bare: bool,
    },
}

fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Acks {
    /// Of a client whose windows are shifted so far.
    pub fn new(window_scale: u8) -> Acks {
        Acks {
            window_scale,
            ..Acks::default()
        }
    }

    /// Takes a segment of the server. What the client says now that it was sent.
    pub fn answered(&mut self, tcp: &Tcp<'_>) -> Option<Vec<u8>> {
        let end = tcp.seq.wrapping_add(tcp.takes());
        if self.sent.is_none_or(|sent| is_after(end, sent)) {
            self.sent = Some(end);
        }
        self.owed(self.sent?)
    }

    /// Has a frame of the client with this segment acknowledge no more than was
    /// sent. False if nothing is left of it.
    pub fn adapt(&mut self, tcp: &Tcp<'_>, frame: &[u8], into: &mut Vec<u8>) -> bool {
        into.extend_from_slice(frame);
        let Some(sent) = self.sent else {
            return true;
        };
        match self.fit(tcp, sent) {
            Fit::As => true,
            Fit::Less {
                ack,
                window,
                is_bare,
            } => {
                self.keep(tcp, frame);
                frames::set_ack(into, ack, window);
                !is_bare
            }
        }
    }

    /// Judges a segment of the client, when all before the number `sent` was sent.
    fn fit(&mut self, tcp: &Tcp<'_>, sent: u32) -> Fit {
        if !tcp.flags.ack() || tcp.flags.rst() {
            return Fit::As;
        }
        if !is_after(tcp.ack, sent) {
            self.last = Some(tcp.ack);
            // One that came late does not take back what it said before.
            self.owed = self.owed.take().filter(|owed| is_after(owed.ack, tcp.ack));
            return Fit::As;
        }
        let is_said = self.last == Some(sent);
        self.last = Some(sent);
        Fit::Less {
            ack: sent,
            window: self.window(tcp.window, tcp.ack.wrapping_sub(sent)),
            is_bare: is_said && tcp.len == 0 && !tcp.flags.is_control(),
        }
    }

    /// Keeps a segment that acknowledges more than was sent.
    fn keep(&mut self, tcp: &Tcp<'_>, frame: &[u8]) {
        self.owed = Some(Owed {
            ack: tcp.ack,
            window: tcp.window,
            seq: tcp.seq.wrapping_add(tcp.takes()),
            frame: frame.to_vec(),
        });
    }

    /// What the client says once all before `sent` was sent.
    fn owed(&mut self, sent: u32) -> Option<Vec<u8>> {
        let owed = self.owed.take()?;
        let ack = if is_after(owed.ack, sent) {
            sent
        } else {
            owed.ack
        };
        let window = self.window(owed.window, owed.ack.wrapping_sub(ack));
        let bytes = frames::bare_ack(&owed.frame, owed.seq, ack, window)?;
        self.last = Some(ack);
        self.owed = (ack != owed.ack).then_some(owed);
        Some(bytes)
    }

    /// A window from `less` bytes before, with the same edge.
    fn window(&self, window: u16, less: u32) -> u16 {
        let more = less.div_ceil(1 << self.window_scale);
        u16::try_from(u32::from(window) + more.min(65_535)).unwrap_or(u16::MAX)
    }
}
