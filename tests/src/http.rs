//! A small HTTP/1.1 client on a kernel socket, that checks as it reads.
//!
//! It knows just enough to hold a server to the framing rules of RFC 9112 §6,
//! and shows every byte of it: a test decides itself what is sent and when.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A reply, read completely.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields in their order; names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding") == Some("chunked")
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// A client on a connected stream.
    pub fn new(stream: TcpStream) -> Client {
        Client {
            stream: BufReader::with_capacity(64 * 1024, stream),
        }
    }

    /// The stream under it, for what only a socket can do.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the connection does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.try_send(bytes);
        sent.expect("the connection takes what is sent");
    }

    /// Sends bytes as they are, on a connection that may be gone.
    ///
    /// # Errors
    /// As [`Write::write_all`].
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_ref().write_all(bytes.as_ref())
    }

    /// One GET and its reply.
    ///
    /// # Panics
    /// If there is no proper reply.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(request("GET", path));
        self.reply().expect("a reply")
    }

    /// Reads one reply to a request that was not HEAD.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends first, `InvalidData` for
    /// anything that is not HTTP/1.1.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        let mut body = Vec::new();
        self.body(&reply, &mut body)?;
        reply.body = body;
        Ok(reply)
    }

    /// Reads a reply up to its body, which is left empty.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn head(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| invalid(&line))?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Reply {
            status,
            fields,
            body: Vec::new(),
        })
    }

    /// Copies the body of `reply` to `to` and returns its length.
    ///
    /// # Errors
    /// As [`Client::reply`], and those of `to`.
    pub fn body(&mut self, reply: &Reply, to: &mut impl Write) -> io::Result<u64> {
        if reply.status < 200 || matches!(reply.status, 204 | 304) {
            return Ok(0);
        }
        if reply.is_chunked() {
            return self.chunks(to);
        }
        let Some(length) = reply.field("content-length") else {
            return io::copy(&mut self.stream, to);
        };
        let length = length.parse().map_err(|_| invalid(length))?;
        self.copy(length, to)
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// If it ends in any other way.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn chunks(&mut self, to: &mut impl Write) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid(&line))?;
            total += self.copy(size, to)?;
            let end = self.line()?;
            if !end.is_empty() {
                return Err(invalid(&end));
            }
            if size == 0 {
                return Ok(total);
            }
        }
    }

    fn copy(&mut self, length: u64, to: &mut impl Write) -> io::Result<u64> {
        let copied = io::copy(&mut Read::by_ref(&mut self.stream).take(length), to)?;
        if copied == length {
            Ok(copied)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// A line without its end, which has to be CR LF.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8(line).map_err(|_| invalid("a line that is not UTF-8"))?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(invalid(&line)),
        }
    }
}

/// A request without a body.
pub fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: lab\r\n\r\n")
}

/// The head of a POST with a body of `length` bytes.
pub fn post_head(path: &str, length: u64) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n")
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not HTTP/1.1: {what:?}"),
    )
}
