//! Taking what a server sent apart into replies that can be compared.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::vector::points;

/// Bytes of a body that are kept as they are; of a longer one its length and a
/// hash.
const KEPT_BODY: usize = 2048;

/// One reply, or an informational one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The status line.
    pub status: String,
    /// The fields, sorted, without Date.
    pub headers: Vec<String>,
    /// The body, its chunks put together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The fields behind the chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<String>,
    /// Whether chunks were sent without their end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// The replies in what was received. They begin where a status line does: what
/// servers of these tests put in bodies is never one.
pub fn split(mut heard: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !heard.is_empty() {
        let end = (1..heard.len()).find(|&at| is_status_line(&heard[at..]));
        let (one, rest) = heard.split_at(end.unwrap_or(heard.len()));
        replies.push(reply(one));
        heard = rest;
    }
    replies
}

fn is_status_line(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"HTTP/1.1 ");
    let rest = rest.or_else(|| text.strip_prefix(b"HTTP/1.0 "));
    rest.is_some_and(|rest| rest.len() > 3 && rest[..3].iter().all(u8::is_ascii_digit))
}

fn reply(text: &[u8]) -> Reply {
    let (head, body) = cut(text, b"\r\n\r\n").unwrap_or((text, b""));
    let mut lines = head.split(|&b| b == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        points(line)
    });
    let status = lines.next().unwrap_or_default();
    let mut headers: Vec<_> = lines.filter(|line| !line.starts_with("Date: ")).collect();
    headers.sort();
    let mut reply = Reply {
        status,
        headers,
        body: String::new(),
        trailers: Vec::new(),
        cut: false,
    };
    if reply.has("Transfer-Encoding: chunked") && !body.is_empty() {
        let unchunked = unchunk(body);
        reply.cut = unchunked.is_none();
        let (body, trailers) = unchunked.unwrap_or((body.to_vec(), Vec::new()));
        reply.trailers = trailers;
        reply.set_body(&body);
    } else {
        reply.set_body(body);
    }
    reply
}

impl Reply {
    fn has(&self, line: &str) -> bool {
        self.headers.iter().any(|have| have == line)
    }

    fn set_body(&mut self, body: &[u8]) {
        if !self.has("Content-Type: application/json") {
            self.body = shortened(body);
            return;
        }
        // Its length depends on the client's port, on white space and on words.
        self.headers.retain(|l| !l.starts_with("Content-Length: "));
        let json = plain_json(body);
        self.body = shortened(json.as_ref().map_or(body, String::as_bytes));
    }
}

fn shortened(body: &[u8]) -> String {
    match body.len() {
        ..KEPT_BODY => points(body),
        len => format!("{len} bytes, FNV-1a {:016x}", fnv1a(body)),
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The JSON of a body in one spelling, without the client's address and the words
/// of a mux's refusal.
fn plain_json(body: &[u8]) -> Option<String> {
    let mut json: Value = serde_json::from_slice(body).ok()?;
    if let Some(remote) = json.get_mut("remote") {
        *remote = "-".into();
    }
    for registered in json.as_array_mut().into_iter().flatten() {
        registered.as_object_mut()?.remove("err");
    }
    Some(json.to_string())
}

fn cut<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = text.windows(at.len()).position(|window| window == at)?;
    Some((&text[..found], &text[found + at.len()..]))
}

/// The body and the trailers of chunks that came to their end.
fn unchunk(mut text: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = cut(text, b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            let whole = [b"\r\n", rest].concat();
            let (fields, _) = cut(&whole, b"\r\n\r\n")?;
            let mut lines: Vec<_> = points(fields).lines().map(ToOwned::to_owned).collect();
            lines.retain(|line| !line.is_empty());
            lines.sort();
            return Some((body, lines));
        }
        body.extend_from_slice(rest.get(..size)?);
        text = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
