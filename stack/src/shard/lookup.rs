//! Name lookups in a shard: whom to ask, for how long, and what to make of the
//! answer.
//!
//! Each question asks the servers in turn, [`ROUNDS`] times round at most; a
//! round waits twice as long as the one before. A server that says «no such
//! name» is believed; one that fails, refuses or cannot be reached makes the
//! question go on to the next at once. So a lookup ends after 7 s for each
//! server, whatever happens, and after less when somebody answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wirepath_driver::Nanos;

use super::Shard;
use crate::dns::{self, Answer, Lookup, Name, Question};
use crate::flow::Entry;
use crate::syscall::Family;
use crate::udp::Outgoing;
use crate::{Errno, Fd};

/// How often each server is asked.
const ROUNDS: usize = 3;
/// How long the first round waits for an answer.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Aliases that a lookup asks again for, at most.
const MAX_ALIASES: usize = 8;
/// Lookups of one shard, at most.
const MAX_LOOKUPS: u64 = 1_024;

impl Shard {
    pub(crate) fn dns_query(
        &mut self,
        name: &str,
        family: Family,
        now: Nanos,
    ) -> Result<Fd, Errno> {
        if self.is_down {
            return Err(Errno::NetworkDown);
        }
        if self.local.is_shared {
            return Err(Errno::NotSupported);
        }
        if self.name_servers.is_empty() {
            return Err(Errno::NoNameServer);
        }
        let name = Name::parse(name).ok_or(Errno::NameNotFound)?;
        if self.lookups >= MAX_LOOKUPS {
            return Err(Errno::NoBuffers);
        }
        let slot = self
            .slots
            .insert(|fd| Entry::Lookup(Box::new(Lookup::new(fd, &name, family))))
            .ok_or(Errno::NoBuffers)?;
        self.lookups += 1;
        self.with_questions(slot, |shard, fd, questions| {
            for question in questions {
                shard.ask_next(now, fd, question);
            }
        });
        let lookup = self.slots.lookup(slot).expect("it was just put there");
        Ok(lookup.fd)
    }

    pub(crate) fn dns_result(&mut self, fd: Fd) -> Result<Vec<IpAddr>, Errno> {
        let mut addrs = match self.slots.open(fd) {
            Some(Entry::Lookup(lookup)) => lookup.result()?,
            Some(_) => return Err(Errno::Invalid),
            None => return Err(Errno::BadFd),
        };
        // Stable: IPv6 stays before IPv4, and the server's order as it is.
        addrs.sort_by_key(|addr| self.route(*addr, None).is_err());
        Ok(addrs)
    }

    /// Lets `f` work on the questions of a lookup, then sets its timer, and tells
    /// its user when that ended it.
    fn with_questions(&mut self, slot: u32, f: impl FnOnce(&mut Shard, Fd, &mut [Question])) {
        let Some(lookup) = self.slots.lookup(slot) else {
            return;
        };
        let (fd, was_done) = (lookup.fd, lookup.is_done());
        let mut questions = std::mem::take(&mut lookup.questions);
        f(self, fd, &mut questions);
        let open = questions.iter().filter(|q| q.outcome.is_none());
        if let Some(at) = open.map(|q| q.deadline).min() {
            self.timers.arm(slot, at);
        }
        let lookup = self.slots.lookup(slot).expect("nothing closes it here");
        lookup.questions = questions;
        if lookup.is_done() && !was_done {
            lookup.has_news = true;
            let failed = matches!(
                lookup.result(),
                Err(Errno::TimedOut | Errno::NameServerFailed)
            );
            self.counters.dns_failed += u64::from(failed);
            self.timers.disarm(slot);
            self.touch_datagrams(slot);
        }
    }

    /// Asks the next server, or ends the question when each had its chances.
    fn ask_next(&mut self, now: Nanos, fd: Fd, question: &mut Question) {
        self.hang_up(question);
        let servers = self.name_servers.len();
        while question.tries < ROUNDS * servers {
            let server = self.name_servers[question.tries % servers];
            let round = u32::try_from(question.tries / servers).expect("ROUNDS is small");
            question.tries += 1;
            match self.ask(now, fd, question, server) {
                Ok(()) => {
                    question.deadline = now + FIRST_WAIT * (1 << round);
                    question.failure = Errno::TimedOut;
                    return;
                }
                Err(error) => question.failure = error,
            }
        }
        question.outcome = Some(Err(question.failure));
    }

    /// Sends a question to a server, from a port and with an id of its own.
    fn ask(
        &mut self,
        now: Nanos,
        fd: Fd,
        question: &mut Question,
        server: SocketAddr,
    ) -> Result<(), Errno> {
        if self.is_down {
            return Err(Errno::NetworkDown);
        }
        let route = self.route(server.ip(), None)?;
        let port = self.free_udp_port(route.source);
        let local = SocketAddr::new(route.source, port.ok_or(Errno::AddrNotAvailable)?);
        question.id = self.draw() as u16;
        let message = dns::query(question.id, &question.name, question.kind);
        let datagram = Outgoing {
            src: local,
            dst: server,
            data: &message,
        };
        match self.send_datagram(now, fd, route.next_hop, &datagram) {
            // With a full ring the message is lost as on the wire, and repeated.
            Ok(()) | Err(Errno::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        self.counters.dns_queries += 1;
        self.bound.insert(local, fd.slot());
        question.out = Some((local, server));
        Ok(())
    }

    /// Waits no more for the answer to the message that is out.
    fn hang_up(&mut self, question: &mut Question) {
        if let Some((local, _)) = question.out.take() {
            self.bound.remove(local);
        }
    }

    /// A datagram came to a port of a lookup: `at` says to where and from whom.
    pub(super) fn take_answer(
        &mut self,
        now: Nanos,
        slot: u32,
        at: (SocketAddr, SocketAddr),
        message: &[u8],
    ) {
        self.with_questions(slot, |shard, fd, questions| {
            let said = questions.iter_mut().find_map(|question| {
                let is_fit = question.out == Some(at);
                let (id, name, kind) = (question.id, &question.name, question.kind);
                let said = is_fit.then(|| dns::answer(message, id, name, kind))??;
                Some((question, said))
            });
            let Some((question, answer)) = said else {
                shard.counters.dns_ignored += 1;
                return;
            };
            shard.counters.dns_answers += 1;
            shard.hear(now, fd, question, answer);
        });
    }

    fn hear(&mut self, now: Nanos, fd: Fd, question: &mut Question, answer: Answer) {
        match answer {
            Answer::Alias(name) if question.aliases < MAX_ALIASES => {
                question.name = name;
                question.aliases += 1;
                question.tries = 0;
                self.ask_next(now, fd, question);
            }
            Answer::Refused | Answer::Alias(_) => self.ask_another(now, fd, question),
            Answer::Addresses(addrs) => {
                self.hang_up(question);
                question.outcome = Some(Ok(addrs));
            }
            Answer::NoSuchName => {
                self.hang_up(question);
                question.outcome = Some(Err(Errno::NameNotFound));
            }
        }
    }

    /// Goes on after a server that failed.
    fn ask_another(&mut self, now: Nanos, fd: Fd, question: &mut Question) {
        self.ask_next(now, fd, question);
        if question.outcome.is_some() {
            question.outcome = Some(Err(Errno::NameServerFailed));
        }
    }

    /// A message did not arrive: `ends` says from where to which server.
    pub(super) fn server_unreachable(
        &mut self,
        now: Nanos,
        slot: u32,
        ends: (SocketAddr, SocketAddr),
        error: Errno,
    ) {
        self.with_questions(slot, |shard, fd, questions| {
            if let Some(question) = questions.iter_mut().find(|q| q.out == Some(ends)) {
                shard.ask_next(now, fd, question);
                if question.outcome.is_some() {
                    question.outcome = Some(Err(error));
                }
            }
        });
    }

    /// Gives up the messages whose time is over.
    pub(super) fn lookup_timer(&mut self, now: Nanos, slot: u32) {
        self.with_questions(slot, |shard, fd, questions| {
            let open = questions.iter_mut().filter(|q| q.outcome.is_none());
            for question in open.filter(|q| q.deadline <= now) {
                shard.ask_next(now, fd, question);
            }
        });
    }

    /// Ends a lookup.
    pub(super) fn end_lookup(&mut self, slot: u32, error: Errno) {
        self.with_questions(slot, |shard, _, questions| {
            for question in questions.iter_mut().filter(|q| q.outcome.is_none()) {
                shard.hang_up(question);
                question.outcome = Some(Err(error));
            }
        });
    }
}
