//! A TCP service of a kernel and a client of it that never stops talking: what
//! SSH is to an operator who starts and kills servers on the same interface.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::netns::Netns;
use crate::wait::{PATIENCE, wait_until};

/// How long a [`Session`] rests between two messages.
const REST: Duration = Duration::from_millis(5);

/// Messages that show that a session goes on.
const SOME: u64 = 10;

/// A service that sends back what it gets; dropping it ends it, so that its
/// sockets do not keep their namespace alive.
#[derive(Debug)]
pub struct Echo {
    listener: TcpListener,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts it at `addr`, which is one of the namespace's kernel.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn start(net: &Netns, addr: &str) -> io::Result<Echo> {
        let listener = net.enter(|| TcpListener::bind(addr))?;
        let streams = Arc::new(Mutex::new(Vec::new()));
        let acceptor = std::thread::spawn({
            let (listener, streams) = (listener.try_clone()?, streams.clone());
            move || accept_all(&listener, &streams)
        });
        Ok(Echo {
            listener,
            streams,
            acceptor: Some(acceptor),
        })
    }
}

fn accept_all(listener: &TcpListener, streams: &Mutex<Vec<TcpStream>>) {
    while let Ok((stream, _)) = listener.accept() {
        let Ok(mut reader) = stream.try_clone() else {
            return;
        };
        let mut writer = reader.try_clone().expect("it was cloned before");
        streams.lock().expect("nothing panics with it").push(stream);
        std::thread::spawn(move || io::copy(&mut reader, &mut writer));
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Wakes the thread in accept(2), which std cannot.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in self.streams.lock().expect("nothing panics with it").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection to an [`Echo`] on which a message goes to and fro all the time.
#[derive(Debug)]
pub struct Session {
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    talker: Option<JoinHandle<io::Result<()>>>,
}

impl Session {
    /// Connects from inside the namespace and begins to talk.
    ///
    /// # Errors
    /// As [`Netns::connect`].
    pub fn open(net: &Netns, to: &str) -> io::Result<Session> {
        let to: SocketAddr = to.parse().expect("a literal address");
        let mut stream = net.connect(to)?;
        let stop = Arc::new(AtomicBool::new(false));
        let echoed = Arc::new(AtomicU64::new(0));
        let talker = std::thread::spawn({
            let (stop, echoed) = (stop.clone(), echoed.clone());
            move || talk(&mut stream, &stop, &echoed)
        });
        Ok(Session {
            stop,
            echoed,
            talker: Some(talker),
        })
    }

    /// Messages that came back so far.
    pub fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    /// Whether it has ended by itself.
    pub fn is_broken(&self) -> bool {
        self.talker.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits until some more messages came back.
    ///
    /// # Panics
    /// If the connection broke, or they do not come.
    #[track_caller]
    pub fn check_goes_on(&self) {
        let want = self.echoed() + SOME;
        wait_until("a session with the kernel goes on", || {
            assert!(!self.is_broken(), "the session with the kernel broke");
            self.echoed() >= want
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.talker.take().map(JoinHandle::join);
        if let Some(Ok(Err(err))) = ended {
            eprintln!("lab: a session with the kernel broke: {err}");
        }
    }
}

/// Sends numbers, and expects each back before the next, within [`PATIENCE`].
fn talk(stream: &mut TcpStream, stop: &AtomicBool, echoed: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = n.to_be_bytes();
        stream.write_all(&sent)?;
        let mut got = [0; 8];
        stream.read_exact(&mut got)?;
        if got != sent {
            return Err(io::Error::new(ErrorKind::InvalidData, "another message"));
        }
        echoed.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(REST);
    }
    Ok(())
}
