//! Having one conversation with a server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::reply::{self, Reply};
use super::vector::{Finish, Piece, Vector, bytes};

/// How long a conversation may take; a server's timeouts are within it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two pieces, so that they arrive apart. Nothing depends on it: a
/// server answers the same when they do not.
const APART: Duration = Duration::from_millis(3);
const PROBE: &[u8] = b"GET /sethdr?name=X-Probe&value=kept HTTP/1.1\r\nHost: probe\r\n\r\n";
const PROBED: &str = "X-Probe: kept";

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its answers, in order.
    pub replies: Vec<Reply>,
    /// What became of the connection.
    pub end: End,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was good for another request.
    Kept,
    /// The server closed it.
    Closed,
    /// The server said nothing more and kept it.
    Silent,
}

/// Has the conversation over `stream`.
///
/// # Errors
/// When the operating system fails; that the server closes is no error.
pub fn play(vector: &Vector, mut stream: TcpStream) -> io::Result<Outcome> {
    stream.set_nodelay(true)?;
    let mut heard = Heard::listen(stream.try_clone()?);
    let end = Instant::now() + PATIENCE;
    // What a server that closed does not take is part of the outcome.
    let _ = send(vector, &mut stream, &mut heard, end);
    let closed = heard.until(end, |_| false);
    let _ = stream.shutdown(Shutdown::Both);
    Ok(outcome(&heard.bytes, closed))
}

fn send(
    vector: &Vector,
    stream: &mut TcpStream,
    heard: &mut Heard,
    end: Instant,
) -> io::Result<()> {
    for piece in &vector.send {
        match piece {
            Piece::Bytes(text) => stream.write_all(&bytes(text))?,
            Piece::Repeat { repeat, times } => stream.write_all(&bytes(repeat).repeat(*times))?,
            Piece::Wait { wait_for } => {
                let wanted = bytes(wait_for);
                heard.until(end, |got| memmem(got, &wanted));
            }
        }
        if vector.send.len() > 1 {
            thread::sleep(APART);
        }
    }
    match vector.finish {
        Finish::Probe => {
            stream.write_all(PROBE)?;
            stream.shutdown(Shutdown::Write)
        }
        Finish::HalfClose => stream.shutdown(Shutdown::Write),
        Finish::Wait => Ok(()),
    }
}

fn memmem(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|at| at == wanted)
}

fn outcome(heard: &[u8], closed: bool) -> Outcome {
    let mut replies = reply::split(heard);
    let is_probed = |reply: &Reply| reply.headers.iter().any(|line| line == PROBED);
    let end = match replies.last() {
        Some(last) if is_probed(last) => End::Kept,
        _ if closed => End::Closed,
        _ => End::Silent,
    };
    if end == End::Kept {
        replies.pop();
    }
    Outcome { replies, end }
}

/// What was received. It is read beside the sending, as a server that answers
/// early and closes would have it thrown away otherwise.
struct Heard {
    bytes: Vec<u8>,
    parts: Receiver<Vec<u8>>,
}

impl Heard {
    fn listen(mut stream: TcpStream) -> Heard {
        let (sender, parts) = channel();
        thread::spawn(move || {
            let mut part = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut part) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => return,
                    Ok(n) if sender.send(part[..n].to_vec()).is_err() => return,
                    Ok(_) => {}
                }
            }
        });
        let bytes = Vec::new();
        Heard { bytes, parts }
    }

    /// Receives until `enough`, or the stream's end, which it tells of, or `end`.
    fn until(&mut self, end: Instant, enough: impl Fn(&[u8]) -> bool) -> bool {
        while !enough(&self.bytes) {
            match self.parts.recv_timeout(end - Instant::now().min(end)) {
                Ok(part) => self.bytes.extend(part),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
        false
    }
}
