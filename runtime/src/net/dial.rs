//! Connecting to a host by its name, as Go's `Dialer` does.
//!
//! The addresses are tried one after the other. Those of the first one's family
//! come first; when they have not led to a connection after
//! [`FALLBACK_DELAY`], or have failed, the other family's are tried beside them
//! (RFC 8305, in its simple form), and whoever connects first ends the other. A
//! deadline is shared among the addresses that are left.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wirepath_driver::Nanos;
use wirepath_stack::Stack;

use super::lookup::lookup_host_on;
use super::socket::Socket;
use super::{Network, TcpStream};
use crate::chan::channel;
use crate::spawn::go;
use crate::time::now;

/// How long the other family waits (Go's; RFC 8305 §5 asks for 250 ms).
const FALLBACK_DELAY: Duration = Duration::from_millis(300);
/// The least share of a deadline (Go's).
const LEAST_SHARE: Duration = Duration::from_secs(2);

pub(super) fn connect_host(
    network: Network,
    target: &str,
    deadline: Option<Nanos>,
) -> io::Result<TcpStream> {
    let (host, port) = split(target)?;
    let found = lookup_host_on(network, host, deadline)?;
    let addrs = found.into_iter().map(|addr| SocketAddr::new(addr, port));
    let addrs: Vec<SocketAddr> = addrs.collect();
    let is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addrs.iter().partition(|a| a.is_ipv4() == is_v4);
    if second.is_empty() {
        return in_turn(network, &first, deadline, &Racer::default());
    }
    race(network, &first, second, deadline)
}

/// Host and port of `example.org:80` or `[fd00::1]:80`.
fn split(target: &str) -> io::Result<(&str, u16)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, BadTarget(target.to_owned()));
    let (host, port) = target.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(bad());
    }
    Ok((host, port))
}

#[derive(Debug, thiserror::Error)]
#[error("«{0}» is not a host and a port, such as example.org:80 or [fd00::1]:80")]
struct BadTarget(String);

/// Tries one family, and meanwhile the other.
fn race(
    network: Network,
    first: &[SocketAddr],
    second: Vec<SocketAddr>,
    deadline: Option<Nanos>,
) -> io::Result<TcpStream> {
    let (primary, fallback) = (Arc::new(Racer::default()), Arc::new(Racer::default()));
    let (hold, held) = channel::<()>(1);
    let (tell, told) = channel(1);
    go({
        let (primary, fallback) = (primary.clone(), fallback.clone());
        move || {
            // Ends early when the first family is done.
            let _ = held.recv_timeout(FALLBACK_DELAY);
            let connected = in_turn(network, &second, deadline, &fallback);
            if connected.is_ok() {
                primary.give_up();
            }
            let _ = tell.send(connected);
        }
    });
    let connected = in_turn(network, first, deadline, &primary);
    if connected.is_ok() {
        fallback.give_up();
    }
    drop(hold);
    connected.or_else(|error| match told.recv() {
        Ok(Ok(stream)) => Ok(stream),
        _ => Err(error),
    })
}

/// Tries each address until one connects; the error is the first one's.
fn in_turn(
    network: Network,
    addrs: &[SocketAddr],
    deadline: Option<Nanos>,
    racer: &Racer,
) -> io::Result<TcpStream> {
    let mut failure = None;
    for (at, addr) in addrs.iter().enumerate() {
        let until = deadline.map(|deadline| share(now(), deadline, addrs.len() - at));
        match racer.connect(network, *addr, until) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure.get_or_insert(error),
        };
        let is_late = deadline.is_some_and(|deadline| deadline <= now());
        if is_late || racer.is_over() {
            break;
        }
    }
    Err(failure.expect("a lookup gives an address at least"))
}

/// Until when the first of `left` addresses may try.
fn share(now: Nanos, deadline: Nanos, left: usize) -> Nanos {
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    let share = deadline.since(now) / left;
    deadline.min(now + share.max(LEAST_SHARE))
}

/// One who tries to connect, whom another may end.
#[derive(Default)]
struct Racer {
    is_over: AtomicBool,
    /// What it waits for now. Whoever takes it decides: the racer, that it has
    /// won, or another, that it is to give up.
    current: Mutex<Option<Socket>>,
}

impl Racer {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn swap(&self, socket: Option<Socket>) -> Option<Socket> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, socket)
    }

    fn connect(
        &self,
        network: Network,
        addr: SocketAddr,
        until: Option<Nanos>,
    ) -> io::Result<TcpStream> {
        let stream = TcpStream::start(network, addr)?;
        self.swap(Some(stream.socket().clone()));
        // One who gave up before could not see the socket.
        if self.is_over() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let finished = stream.finish_connect(until);
        if self.swap(None).is_none() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        finished.map(|()| stream)
    }

    /// Ends it, unless it has won.
    fn give_up(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(socket) = self.swap(None) {
            socket.close(Stack::abort, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_host_and_a_port() {
        for (target, want) in [
            ("example.org:80", Some(("example.org", 80))),
            ("[fd00::1]:80", Some(("fd00::1", 80))),
            ("10.0.0.1:0", Some(("10.0.0.1", 0))),
            ("example.org", None),
            ("example.org:http", None),
            ("example.org:65536", None),
            ("fd00::1:80", None),
            (":80", None),
            ("[]:80", None),
            ("", None),
        ] {
            assert_eq!(split(target).ok(), want, "{target}");
        }
    }

    #[test]
    fn a_deadline_is_shared() {
        let second = Duration::from_secs(1);
        let (now, end) = (Nanos(0), Nanos(0) + 12 * second);
        for (left, want) in [(1, 12), (2, 6), (4, 3), (12, 2), (1_000, 2)] {
            assert_eq!(share(now, end, left), now + want * second, "{left}");
        }
        assert_eq!(share(end, end, 3), end);
        assert_eq!(share(now, now + second, 3), now + second);
    }
}
