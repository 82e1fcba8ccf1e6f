//! A server on virtual time, over a cable: its client is a second stack that a
//! goroutine of the simulation works by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use wirepath::{Server, ServerBuilder};
use wirepath_driver::Queue;
use wirepath_driver::cable::{CableOptions, cable};
use wirepath_runtime::net::TcpListener;
use wirepath_runtime::simulation::Simulated;
use wirepath_runtime::{Nanos, Runtime, Stack, go, now, sleep};
use wirepath_stack::{Config, Errno, Fd, Shutdown};

pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));

/// How often the peer looks for frames, and so how exact a time is.
pub const STEP: Duration = Duration::from_micros(100);

fn stack(number: u8, addr: IpAddr, queue: Box<dyn Queue>) -> Stack {
    let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
    let config = Config::new(mac, vec![format!("{addr}/24").parse().unwrap()]);
    Stack::new(config, vec![queue]).unwrap()
}

/// The client's stack.
#[derive(Clone)]
pub struct Peer(Stack);

/// A connection of the client's.
#[derive(Clone)]
pub struct Client {
    peer: Peer,
    fd: Fd,
}

impl Peer {
    /// Turns the stack until `call` does not block, or `until` has come.
    fn work<T>(
        &self,
        until: Option<Nanos>,
        mut call: impl FnMut(&Stack) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            self.0.poll(0, now(), 64, &mut Vec::new());
            let done = call(&self.0);
            self.0.flush(0, now());
            match done {
                Err(Errno::WouldBlock) if until.is_none_or(|at| now() < at) => sleep(STEP),
                done => return done,
            }
        }
    }

    pub fn connect(&self) -> Client {
        let to = SocketAddr::new(SERVER, 80);
        let fd = self.0.connect(0, to, now()).unwrap();
        self.work(None, |stack| stack.connect_result(fd)).unwrap();
        let peer = self.clone();
        Client { peer, fd }
    }
}

#[allow(dead_code, reason = "no test needs all of them")]
impl Client {
    pub fn send(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let write = |stack: &Stack| stack.write(self.fd, bytes, now());
            let n = self.peer.work(None, write).unwrap();
            bytes = &bytes[n..];
        }
    }

    /// Sends bytes one by one, `pause` apart, until they are sent or refused;
    /// how many were sent.
    pub fn send_slowly(&self, bytes: &[u8], pause: Duration) -> usize {
        for (n, byte) in bytes.iter().enumerate() {
            let write = |stack: &Stack| stack.write(self.fd, &[*byte], now());
            if self.peer.work(None, write).is_err() {
                return n;
            }
            self.wait(pause);
        }
        bytes.len()
    }

    /// Lets time pass, with the stack at work.
    pub fn wait(&self, duration: Duration) {
        let until = now() + duration;
        let _ = self
            .peer
            .work(Some(until), |_| Err::<(), _>(Errno::WouldBlock));
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        let finish = |stack: &Stack| stack.shutdown(self.fd, Shutdown::Write, now());
        self.peer.work(None, finish).unwrap();
    }

    /// Resets the connection.
    pub fn reset(&self) {
        let reset = |stack: &Stack| stack.abort(self.fd, now());
        self.peer.work(None, reset).unwrap();
    }

    /// Reads what is there, up to `max` bytes; how many. 0: nothing, or the end.
    pub fn read_some(&self, max: usize) -> usize {
        let mut buf = vec![0; max];
        let read = |stack: &Stack| stack.read(self.fd, &mut buf, now());
        self.peer.work(Some(now()), read).unwrap_or(0)
    }

    /// What the server sends until it closes, and how it ended that.
    pub fn read_to_end(&self) -> (String, Result<(), Errno>) {
        let (mut got, mut buf) = (Vec::new(), [0; 4096]);
        let end = loop {
            match self
                .peer
                .work(None, |stack| stack.read(self.fd, &mut buf, now()))
            {
                Ok(0) => break Ok(()),
                Ok(n) => got.extend_from_slice(&buf[..n]),
                Err(e) => break Err(e),
            }
        };
        (String::from_utf8_lossy(&got).into_owned(), end)
    }

    /// What the server sends until that ends with `end`.
    #[track_caller]
    pub fn read_until(&self, end: &str) -> String {
        let (mut got, mut buf) = (Vec::new(), [0; 4096]);
        while !got.ends_with(end.as_bytes()) {
            let read = |stack: &Stack| stack.read(self.fd, &mut buf, now());
            match self.peer.work(None, read) {
                Ok(n @ 1..) => got.extend_from_slice(&buf[..n]),
                ended => panic!("{ended:?} after {:?}", String::from_utf8_lossy(&got)),
            }
        }
        String::from_utf8(got).unwrap()
    }
}

/// Runs `client` against a server of `builder`, and closes the server after.
pub fn simulate<T: Send + 'static>(
    seed: u64,
    builder: ServerBuilder,
    client: impl FnOnce(&Peer, &Server) -> T + Send + 'static,
) -> Simulated<T> {
    let (near, far) = cable(CableOptions::default()).unwrap();
    let peer = Peer(stack(2, CLIENT, Box::new(far)));
    let server = stack(1, SERVER, Box::new(near));
    let run = Runtime::builder().stack(server).simulate(seed, move || {
        let listener = TcpListener::bind((SERVER, 80)).unwrap();
        let server = builder.build();
        let serving = server.clone();
        let accepting = go(move || serving.serve(listener).unwrap());
        let value = client(&peer, &server);
        server.close();
        accepting.join().unwrap();
        value
    });
    run.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"))
}
