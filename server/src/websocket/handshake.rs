//! The opening handshake, the server's part (RFC 6455 §4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use tungstenite::handshake::derive_accept_key;

use super::WebSocket;
use crate::hijack::HijackError;
use crate::request::{Request, has_token};
use crate::response::{ResponseWriter, error};

/// The bytes of a client's message that are taken unless more are allowed.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The only version (RFC 6455 §4.1).
const VERSION: &str = "13";
/// The length of the nonce that a client sends (RFC 6455 §4.1).
const NONCE_BYTES: usize = 16;

/// How a WebSocket is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The most that a message of the client's may have, in bytes, its frames
    /// taken together: a larger one ends the connection with code 1009. 1 MiB
    /// unless set.
    pub max_message_bytes: usize,
    /// The subprotocols that the server speaks, the best first. The client gets
    /// the first that it offers as well, or none.
    pub subprotocols: &'a [&'a str],
    /// Whether a page of this request's `Origin` may connect; asked only when
    /// there is one. By default, one of the host that is asked for.
    pub check_origin: fn(&Request) -> bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            max_message_bytes: MAX_MESSAGE_BYTES,
            subprotocols: &[],
            check_origin: is_same_origin,
        }
    }
}

/// Why a request became no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// It is not a GET of HTTP/1.1 without a body.
    #[error("a WebSocket is asked for with a GET of HTTP/1.1 without a body")]
    Request,
    /// It does not ask to upgrade to a WebSocket.
    #[error("this address is for WebSockets: the request asks for no upgrade to one")]
    NotUpgrade,
    /// It asks for another version than 13.
    #[error("only version 13 of the WebSocket protocol is spoken")]
    Version,
    /// It has no key, several, or one that is not 16 bytes in Base64.
    #[error("the Sec-WebSocket-Key is not one of 16 bytes in Base64")]
    Key,
    /// It is from a page of another site: see [`Options::check_origin`].
    #[error("pages of that origin may not connect")]
    Origin,
    /// The connection could not be taken over.
    #[error("the connection could not be taken over")]
    Hijack(#[from] HijackError),
}

impl UpgradeError {
    fn status(self) -> StatusCode {
        match self {
            UpgradeError::Request | UpgradeError::Key => StatusCode::BAD_REQUEST,
            UpgradeError::NotUpgrade | UpgradeError::Version => StatusCode::UPGRADE_REQUIRED,
            UpgradeError::Origin => StatusCode::FORBIDDEN,
            UpgradeError::Hijack(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Makes a WebSocket of the connection that a handshake came over. Header
/// fields that `w` was given before, as cookies, go out with the answer.
///
/// # Errors
///
/// When the request is no handshake that may be accepted. It has been answered
/// then, with 400, 403 or 426, and the handler has nothing more to do.
pub fn upgrade(
    w: &mut ResponseWriter,
    r: &mut Request,
    options: &Options<'_>,
) -> Result<WebSocket, UpgradeError> {
    let accept = check(r, options).inspect_err(|&e| refuse(w, e))?;
    let subprotocol = choose(r, options.subprotocols);
    w.header("Upgrade", "websocket");
    w.header("Connection", "Upgrade");
    w.header("Sec-WebSocket-Accept", accept);
    if let Some(chosen) = subprotocol {
        w.header("Sec-WebSocket-Protocol", chosen);
    }
    w.write_header(StatusCode::SWITCHING_PROTOCOLS);
    let hijacked = w.hijack(r)?;
    let subprotocol = subprotocol.map(str::to_owned);
    Ok(WebSocket::new(
        hijacked,
        options.max_message_bytes,
        subprotocol,
    ))
}

fn refuse(w: &mut ResponseWriter, e: UpgradeError) {
    if e.status() == StatusCode::UPGRADE_REQUIRED {
        w.header("Upgrade", "websocket");
        w.header("Connection", "Upgrade");
        w.header("Sec-WebSocket-Version", VERSION);
    }
    error(w, &e.to_string(), e.status());
}

/// What proves to the client that its handshake was understood.
fn check(r: &Request, options: &Options<'_>) -> Result<String, UpgradeError> {
    if *r.method() != Method::GET || !r.is_11() || r.content_length() != Some(0) {
        return Err(UpgradeError::Request);
    }
    if !any_has_token(r, "Upgrade", "websocket") || !any_has_token(r, "Connection", "upgrade") {
        return Err(UpgradeError::NotUpgrade);
    }
    if r.headers.get_bytes("Sec-WebSocket-Version") != Some(VERSION.as_bytes()) {
        return Err(UpgradeError::Version);
    }
    let mut keys = r.headers.get_all("Sec-WebSocket-Key");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(UpgradeError::Key);
    };
    if !matches!(STANDARD.decode(key), Ok(nonce) if nonce.len() == NONCE_BYTES) {
        return Err(UpgradeError::Key);
    }
    if r.headers.contains("Origin") && !(options.check_origin)(r) {
        return Err(UpgradeError::Origin);
    }
    Ok(derive_accept_key(key))
}

fn any_has_token(r: &Request, name: &str, token: &str) -> bool {
    r.headers.get_all(name).any(|list| has_token(list, token))
}

/// Whether `Origin` is of the host that is asked for (RFC 6454 §7): its scheme
/// aside, which the server, perhaps behind a proxy, does not know.
fn is_same_origin(r: &Request) -> bool {
    let mut origins = r.headers.get_all("Origin");
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return false;
    };
    let origin = String::from_utf8_lossy(origin);
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| host.eq_ignore_ascii_case(r.host()))
}

/// The first of `spoken` that the client offers.
fn choose<'a>(r: &Request, spoken: &[&'a str]) -> Option<&'a str> {
    let offers = |name: &&&str| {
        let mut lists = r.headers.get_all("Sec-WebSocket-Protocol");
        lists.any(|list| {
            let mut offered = list.split(|&b| b == b',');
            offered.any(|item| item.trim_ascii() == name.as_bytes())
        })
    };
    spoken.iter().find(offers).copied()
}
