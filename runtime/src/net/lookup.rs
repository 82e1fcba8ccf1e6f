//! Addresses of hosts by their names.
//!
//! On the kernel's network the system resolves (`getaddrinfo(3)`, with its hosts
//! file, search list and caches), on the stack its own lookups do, over the
//! stack, from the name servers that it was made with. Addresses as text are
//! taken as they are, and on the stack `localhost` and what ends in it is never
//! asked for (RFC 6761 §6.3).
//!
//! `getaddrinfo` blocks its thread for as long as it likes and cannot be ended.
//! Inside of [`blocking`](crate::blocking) it would keep waiting whoever is bound
//! to that thread, the caller's own deadline included. So it runs on a thread of
//! its own, which tells an eventfd, and the caller waits for that as for a
//! socket. Such threads are bounded, as in Go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use wirepath_driver::Nanos;
use wirepath_stack::Stack;
use wirepath_stack::syscall::Family;

use super::socket::Socket;
use super::{Network, runtime};
use crate::netpoll::{CallError, Dir};
use crate::sched::Shared;

/// Threads that ask the system, at most (Go's limit).
const MAX_THREADS: usize = 500;
/// What a lookup is called in errors.
const WHAT: &str = "the lookup";

/// The addresses of a host, on the runtime's network, in the order in which to
/// try them; at least one.
///
/// # Errors
/// `NotFound` when the name does not exist or has no address, `TimedOut` when no
/// name server answered, `Unsupported` on a stack without name servers and
/// outside of a runtime; the system's, whose kinds say less. Each names the host.
pub fn lookup_host(name: &str) -> io::Result<Vec<IpAddr>> {
    lookup_host_on(Network::current()?, name, None)
}

/// As [`lookup_host`], on this network and until `deadline`.
///
/// # Errors
/// As [`lookup_host`]; `TimedOut` after the deadline, `NetworkDown` for the
/// stack in a runtime that has none.
pub fn lookup_host_on(
    network: Network,
    name: &str,
    deadline: Option<Nanos>,
) -> io::Result<Vec<IpAddr>> {
    let rt = runtime()?;
    if let Ok(addr) = name.parse() {
        return Ok(vec![addr]);
    }
    let found = match network {
        Network::Stack if is_localhost(name) => {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        Network::Stack => ask_stack(&rt, name, deadline),
        Network::Kernel => ask_system(rt, name, deadline),
    };
    found.map_err(|cause| {
        let name = name.to_owned();
        io::Error::new(cause.kind(), LookupFailed { name, cause })
    })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot find the addresses of «{name}»: {cause}")]
struct LookupFailed {
    name: String,
    cause: io::Error,
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next();
    last.is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// Closes what it waits for when it is over, however it ended.
struct Waiting(Socket);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.close(Stack::close, |_| {});
    }
}

impl Waiting {
    fn until<T>(
        &self,
        deadline: Option<Nanos>,
        call: impl FnMut(Nanos) -> Result<T, CallError>,
    ) -> io::Result<T> {
        self.0.desc.set_deadline(Dir::Read, deadline);
        self.0.retry(Dir::Read, call)
    }
}

fn ask_stack(rt: &Arc<Shared>, name: &str, deadline: Option<Nanos>) -> io::Result<Vec<IpAddr>> {
    let shard = rt.netpoll.dial_shard();
    let stack = rt.netpoll.stack()?;
    let fd = stack.dns_query(shard, name, Family::Any, crate::time::now())?;
    let waiting = Waiting(Socket::of_stack(rt.clone(), &[fd], WHAT)?);
    waiting.0.mark_dirty(fd);
    waiting.until(deadline, |_| Ok(stack.dns_result(fd)?))
}

/// What the system says, once it has.
type Said = Arc<Mutex<Option<io::Result<Vec<IpAddr>>>>>;

/// One of [`MAX_THREADS`].
struct Permit;

static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Permit {
    fn take() -> io::Result<Permit> {
        let more = |n| (n < MAX_THREADS).then_some(n + 1);
        let taken = THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let busy = |_| io::Error::new(io::ErrorKind::ResourceBusy, TooMany);
        taken.map(|_| Permit).map_err(busy)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{MAX_THREADS} lookups of the system are under way; try again when some have ended")]
struct TooMany;

fn ask_system(rt: Arc<Shared>, name: &str, deadline: Option<Nanos>) -> io::Result<Vec<IpAddr>> {
    let permit = Permit::take()?;
    let done = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let (tell, said) = (done.try_clone()?, Said::default());
    let waiting = Waiting(Socket::of_kernel(rt, done, WHAT)?);
    let (name, answer) = (name.to_owned(), said.clone());
    std::thread::Builder::new()
        .name("wp-lookup".to_owned())
        .spawn(move || ask_on_thread(&name, &answer, &tell, permit))?;
    let take = || {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.take().ok_or(rustix::io::Errno::AGAIN)
    };
    waiting.until(deadline, |_| Ok(take()?))?
}

fn ask_on_thread(name: &str, answer: &Said, tell: &OwnedFd, permit: Permit) {
    // Each address comes for each kind of socket that the system knows, in
    // whatever order; ports do not matter.
    let found = (name, 0).to_socket_addrs().map(|addrs| {
        let mut found: Vec<IpAddr> = Vec::new();
        for addr in addrs.map(|addr| addr.ip()) {
            if !found.contains(&addr) {
                found.push(addr);
            }
        }
        found
    });
    drop(permit);
    *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    // It fails only when the count is full, and then it was told.
    let _ = rustix::io::write(tell, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_localhost() {
        for (name, want) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("db.localhost", true),
            ("localhost.org", false),
            ("notlocalhost", false),
            ("", false),
        ] {
            assert_eq!(is_localhost(name), want, "{name}");
        }
    }
}
