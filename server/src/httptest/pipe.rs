//! A connection in memory.
//!
//! Two ends, each with what the other wrote and it has not read. A write waits
//! while [`PIPE_BYTES`] are unread, as with a socket. Waiting is the runtime's,
//! so a pipe works on virtual time, and between a goroutine and a thread.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use wirepath_runtime::sync::{Cond, Mutex, MutexGuard};
use wirepath_runtime::{Nanos, now};

use crate::conn::{Conn, Watch};

/// What one direction holds, in bytes: about a socket's buffer.
const PIPE_BYTES: usize = 64 * 1024;

/// One direction.
#[derive(Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// The writer will write no more.
    ended: bool,
    /// The reader will read no more.
    unread: bool,
    /// One of them reset the connection.
    reset: bool,
    read_until: Option<Nanos>,
    write_until: Option<Nanos>,
    /// Who is told when it ends.
    watcher: Option<Waker>,
}

/// A direction and who waits for it.
struct Direction {
    flow: Mutex<Flow>,
    changed: Cond,
}

impl Direction {
    fn new() -> Arc<Direction> {
        Arc::new(Direction {
            flow: Mutex::new(Flow::default()),
            changed: Cond::new(),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.flow.lock();
        change(&mut flow);
        let is_over = flow.ended || flow.reset;
        let watcher = flow.watcher.take_if(|_| is_over);
        drop(flow);
        self.changed.broadcast();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    /// Tries until `call` does not say `WouldBlock`, or the time is up that
    /// `until` tells.
    fn retry<T>(
        &self,
        until: fn(&Flow) -> Option<Nanos>,
        mut call: impl FnMut(&mut Flow) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut flow = self.flow.lock();
        loop {
            let deadline = until(&flow);
            if deadline.is_some_and(|at| at <= now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match call(&mut flow) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    drop(flow);
                    self.changed.broadcast();
                    return done;
                }
            }
            flow = self.wait(flow, deadline);
        }
    }

    fn wait<'a>(
        &self,
        flow: MutexGuard<'a, Flow>,
        deadline: Option<Nanos>,
    ) -> MutexGuard<'a, Flow> {
        match deadline {
            None => self.changed.wait(flow),
            Some(at) => self.changed.wait_timeout(flow, at - now()).0,
        }
    }
}

impl Flow {
    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.bytes.is_empty() {
            return match self.ended || into.is_empty() {
                true => Ok(0),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        io::Read::read(&mut self.bytes, into)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.ended || self.unread {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES.saturating_sub(self.bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = room.min(bytes.len());
        self.bytes.extend(&bytes[..n]);
        Ok(n)
    }
}

/// One end of a pipe. Dropping it ends both directions.
pub(crate) struct PipeEnd {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
    local: SocketAddr,
    peer: SocketAddr,
}

/// A pipe whose ends have these addresses.
pub(super) fn pipe(one: SocketAddr, other: SocketAddr) -> (PipeEnd, PipeEnd) {
    let (there, back) = (Direction::new(), Direction::new());
    let end = |incoming: &Arc<Direction>, outgoing: &Arc<Direction>, local, peer| PipeEnd {
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        local,
        peer,
    };
    (
        end(&back, &there, one, other),
        end(&there, &back, other, one),
    )
}

impl PipeEnd {
    /// Waits until a read would not, or the read deadline has passed.
    pub fn wait_readable(&self) {
        let ready = |flow: &mut Flow| match flow.bytes.is_empty() && !flow.ended && !flow.reset {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        };
        // Either way the next read tells.
        let _ = self.incoming.retry(|flow| flow.read_until, ready);
    }
}

impl Conn for PipeEnd {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.incoming
            .retry(|flow| flow.read_until, |flow| flow.take(into))
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut flow = self.incoming.flow.lock();
        if flow.read_until.is_some_and(|at| at <= now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let taken = flow.take(into);
        drop(flow);
        self.incoming.changed.broadcast();
        taken
    }

    fn short_read_drains(&self) -> bool {
        true
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing
            .retry(|flow| flow.write_until, |flow| flow.put(bytes))
    }

    fn set_read_deadline(&self, at: Option<Nanos>) {
        self.incoming.change(|flow| flow.read_until = at);
    }

    fn set_write_deadline(&self, at: Option<Nanos>) {
        self.outgoing.change(|flow| flow.write_until = at);
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.outgoing.change(|flow| flow.ended = true);
        }
        if how != Shutdown::Write {
            self.incoming.change(|flow| flow.unread = true);
        }
        if how == Shutdown::Both {
            // Whoever reads here is woken, as by a socket.
            self.incoming.change(|flow| flow.ended = true);
        }
        Ok(())
    }

    fn abort(&self) {
        self.incoming.change(|flow| flow.reset = true);
        self.outgoing.change(|flow| flow.reset = true);
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn flow(&self) -> u64 {
        0
    }

    fn watch_hangup(&self, waker: &Waker) -> Option<Watch> {
        let watch = PipeWatch(self.incoming.clone());
        // Told at once if it has ended.
        self.incoming
            .change(|flow| flow.watcher = Some(waker.clone()));
        Some(Box::new(watch))
    }
}

/// A watch for the other end's end.
struct PipeWatch(Arc<Direction>);

impl Drop for PipeWatch {
    fn drop(&mut self) {
        self.0.change(|flow| flow.watcher = None);
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.outgoing.change(|flow| flow.ended = true);
        self.incoming.change(|flow| flow.unread = true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wirepath_runtime::{go, simulate, sleep};

    use super::*;

    fn ends() -> (PipeEnd, PipeEnd) {
        let address = |last| SocketAddr::from(([192, 0, 2, last], 80));
        pipe(address(1), address(2))
    }

    #[test]
    fn bytes_arrive_in_order_and_then_the_end() {
        let (one, other) = ends();
        assert_eq!(one.write(b"hello").unwrap(), 5);
        one.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 3];
        assert_eq!(other.read(&mut buf).unwrap(), 3);
        assert_eq!(other.try_read(&mut buf).unwrap(), 2);
        assert_eq!(other.read(&mut buf).unwrap(), 0);
        let refused = one.write(b"more").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        other.write(b"back").unwrap();
        assert_eq!(one.read(&mut buf).unwrap(), 3, "the other way goes on");
    }

    #[test]
    fn a_full_pipe_holds_its_writer() {
        let run = simulate(1, || {
            let (one, other) = ends();
            let writing = go(move || {
                let mut sent = 0;
                while sent < 3 * PIPE_BYTES {
                    sent += one.write(&[7; 1000]).unwrap();
                }
                sent
            });
            let mut got = 0;
            let mut buf = [0; 4096];
            loop {
                match other.read(&mut buf).unwrap() {
                    0 => return (got, writing.join().unwrap()),
                    n => got += n,
                }
            }
        });
        let (got, sent) = run.unwrap().value;
        assert_eq!(got, sent);
    }

    #[test]
    fn deadlines_hold_for_who_waits_already() {
        let run = simulate(1, || {
            let (one, other) = ends();
            let other = Arc::new(other);
            let reader = other.clone();
            let reading = go(move || reader.read(&mut [0; 1]).unwrap_err().kind());
            sleep(Duration::from_secs(1));
            other.set_read_deadline(Some(now() + Duration::from_secs(9)));
            let kind = reading.join().unwrap();
            assert!(one.write(b"late").is_ok());
            assert_eq!(other.try_read(&mut [0; 1]).unwrap_err().kind(), kind);
            kind
        })
        .unwrap();
        assert_eq!(run.value, io::ErrorKind::TimedOut);
        assert_eq!(run.elapsed, Duration::from_secs(10));
    }

    #[test]
    fn a_reset_and_a_drop_are_noticed() {
        let (one, other) = ends();
        one.write(b"lost").unwrap();
        one.abort();
        let kind = |r: io::Result<usize>| r.unwrap_err().kind();
        assert_eq!(
            kind(other.read(&mut [0; 9])),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(kind(other.write(b"x")), io::ErrorKind::ConnectionReset);
        let (one, other) = ends();
        drop(one);
        assert_eq!(other.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(kind(other.write(b"x")), io::ErrorKind::BrokenPipe);
    }
}
