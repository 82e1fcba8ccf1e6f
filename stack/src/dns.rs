//! Names to addresses: one lookup, its questions, and what an answer says.
//!
//! RFC 1035 for the messages, RFC 5452 for what makes an answer ours: it comes
//! from the server and port that we asked, to the address and port that we asked
//! from, with the question's id, name and type. Id and port are drawn anew from
//! a keyed hash for each message. Whatever does not fit is ignored, and the
//! question goes on waiting. smoltcp's `wire` reads and writes the messages.
//!
//! smoltcp's own DNS socket was rejected: its ids and ports come from a
//! generator that a few observed outputs give away, it takes an answer from any
//! configured server whichever it asked, it has one error for everything, and
//! its limits are fixed when it is compiled.
//!
//! A lookup asks for both kinds of address at once unless told which. There is no
//! cache, no search list and no TCP: an answer that was cut short counts with the
//! addresses that it has.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};
use wirepath_driver::Nanos;

use crate::syscall::{Family, Ready};
use crate::{Errno, Fd};

/// Bytes of a name on the wire, at most (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;
/// Bytes of a label, at most.
const MAX_LABEL: usize = 63;
/// Aliases that one answer is followed through.
const MAX_ALIASES: usize = 16;
/// Addresses that one answer gives, at most.
const MAX_ADDRESSES: usize = 64;

/// A name as on the wire, in lower case, without compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// The name that a text writes, with or without the dot at its end; None
    /// when no name can be so.
    pub(crate) fn parse(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_fit = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic())
        };
        if !text.split('.').all(is_fit) {
            return None;
        }
        let labels = text.split('.').map(|label| Ok::<_, ()>(label.as_bytes()));
        Name::from_labels(labels)
    }

    /// The name that labels make up; None for a malformed one, or one too long.
    fn from_labels<'a, E>(labels: impl Iterator<Item = Result<&'a [u8], E>>) -> Option<Name> {
        let mut wire = Vec::new();
        for label in labels {
            let label = label.ok()?;
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            if wire.len() >= MAX_NAME {
                return None;
            }
        }
        wire.push(0);
        Some(Name(wire))
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name has these addresses of the kind; maybe none.
    Addresses(Vec<IpAddr>),
    /// The name is an alias, and the answer does not say whose address it is.
    Alias(Name),
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// The server cannot or will not say.
    Refused,
}

/// A query message.
pub(crate) fn query(id: u16, name: &Name, kind: DnsQueryType) -> Vec<u8> {
    let repr = DnsRepr {
        transaction_id: id,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question: DnsQuestion {
            name: &name.0,
            type_: kind,
        },
    };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut DnsPacket::new_unchecked(&mut message[..]));
    message
}

/// What `message` says to a question; None when it is no answer to it, or is
/// malformed.
pub(crate) fn answer(message: &[u8], id: u16, name: &Name, kind: DnsQueryType) -> Option<Answer> {
    let packet = DnsPacket::new_checked(message).ok()?;
    let is_response = packet.flags().contains(DnsFlags::RESPONSE);
    if packet.transaction_id() != id || !is_response || packet.opcode() != DnsOpcode::Query {
        return None;
    }
    if packet.question_count() != 1 {
        return None;
    }
    let (rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
    let asked = Name::from_labels(packet.parse_name(question.name))?;
    if asked != *name || question.type_ != kind {
        return None;
    }
    match packet.rcode() {
        DnsRcode::NoError => {}
        DnsRcode::NXDomain => return Some(Answer::NoSuchName),
        _ => return Some(Answer::Refused),
    }
    let mut records = Vec::new();
    let mut rest = rest;
    for _ in 0..packet.answer_record_count() {
        // An answer cut short has fewer records than it says.
        let Ok((after, record)) = DnsRecord::parse(rest) else {
            break;
        };
        let owner = Name::from_labels(packet.parse_name(record.name))?;
        records.push((owner, record.data));
        rest = after;
    }
    let is_cut = packet.flags().contains(DnsFlags::TRUNCATED);
    match follow(&packet, name, kind, &records)? {
        Answer::Addresses(addrs) if addrs.is_empty() && is_cut => Some(Answer::Refused),
        answer => Some(answer),
    }
}

/// Follows aliases through an answer's records to the addresses.
fn follow(
    packet: &DnsPacket<&[u8]>,
    name: &Name,
    kind: DnsQueryType,
    records: &[(Name, DnsRecordData<'_>)],
) -> Option<Answer> {
    let mut at = name.clone();
    for _ in 0..MAX_ALIASES {
        let of_name = records.iter().filter(|(owner, _)| *owner == at);
        let addrs = of_name.clone().filter_map(|(_, data)| match *data {
            DnsRecordData::A(addr) if kind == DnsQueryType::A => Some(addr.into()),
            DnsRecordData::Aaaa(addr) if kind == DnsQueryType::Aaaa => Some(addr.into()),
            _ => None,
        });
        let addrs: Vec<IpAddr> = addrs.take(MAX_ADDRESSES).collect();
        let target = of_name.clone().find_map(|(_, data)| match data {
            DnsRecordData::Cname(target) => Some(*target),
            _ => None,
        });
        match target {
            Some(target) if addrs.is_empty() => at = Name::from_labels(packet.parse_name(target))?,
            _ if addrs.is_empty() && at != *name => return Some(Answer::Alias(at)),
            _ => return Some(Answer::Addresses(addrs)),
        }
    }
    Some(Answer::Refused)
}

/// A question of a lookup.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// What is asked for now: the lookup's name, or what it is an alias of.
    pub(crate) name: Name,
    pub(crate) kind: DnsQueryType,
    /// Of the message that is out.
    pub(crate) id: u16,
    /// Where its answer comes to, and where from; None when none is out.
    pub(crate) out: Option<(SocketAddr, SocketAddr)>,
    /// Messages sent for `name`.
    pub(crate) tries: usize,
    /// Aliases followed by asking again.
    pub(crate) aliases: usize,
    /// When the message that is out is given up.
    pub(crate) deadline: Nanos,
    /// What the last try came to.
    pub(crate) failure: Errno,
    pub(crate) outcome: Option<Result<Vec<IpAddr>, Errno>>,
}

impl Question {
    fn new(name: &Name, kind: DnsQueryType) -> Question {
        Question {
            name: name.clone(),
            kind,
            id: 0,
            out: None,
            tries: 0,
            aliases: 0,
            deadline: Nanos::ZERO,
            failure: Errno::TimedOut,
            outcome: None,
        }
    }
}

/// A name on its way to addresses.
pub(crate) struct Lookup {
    pub(crate) fd: Fd,
    /// One for each kind of address wanted, IPv6 first.
    pub(crate) questions: Vec<Question>,
    /// The word that its events carry.
    pub(crate) token: Option<u64>,
    /// It ended since the last event.
    pub(crate) has_news: bool,
    /// In the shard's list of those whose readiness may have changed.
    pub(crate) is_touched: bool,
}

impl Lookup {
    pub(crate) fn new(fd: Fd, name: &Name, family: Family) -> Lookup {
        let kinds: &[DnsQueryType] = match family {
            Family::Ipv4 => &[DnsQueryType::A],
            Family::Ipv6 => &[DnsQueryType::Aaaa],
            Family::Any => &[DnsQueryType::Aaaa, DnsQueryType::A],
        };
        let questions = kinds.iter().map(|kind| Question::new(name, *kind));
        Lookup {
            fd,
            questions: questions.collect(),
            token: None,
            has_news: false,
            is_touched: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.questions.iter().all(|q| q.outcome.is_some())
    }

    /// The server that owes an answer.
    pub(crate) fn asked(&self) -> Option<SocketAddr> {
        let asked = self.questions.iter().find_map(|question| question.out);
        asked.map(|(_, server)| server)
    }

    /// What a user who waits for the end would find now.
    pub(crate) fn readiness(&self) -> Ready {
        if self.is_done() {
            Ready::READ
        } else {
            Ready::empty()
        }
    }

    /// All addresses found. When there is none: that the name has none, unless a
    /// question failed in another way.
    pub(crate) fn result(&self) -> Result<Vec<IpAddr>, Errno> {
        if !self.is_done() {
            return Err(Errno::WouldBlock);
        }
        let (mut found, mut failure) = (Vec::new(), Errno::NameNotFound);
        for outcome in self.questions.iter().filter_map(|q| q.outcome.as_ref()) {
            match outcome {
                Ok(addrs) => found.extend(addrs),
                Err(error) => failure = *error,
            }
        }
        if found.is_empty() {
            return Err(failure);
        }
        Ok(found)
    }
}

#[cfg(test)]
pub(crate) mod tests;
