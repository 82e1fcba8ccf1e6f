//! Bytes as they are, without a client.

use std::net::SocketAddr;
use std::sync::Arc;

use super::canned::Canned;
use crate::conn::{Connection, Outcome};
use crate::handler::Handler;
use crate::service::{Config, Service};

/// What a server with the limits that it has unless told otherwise answers to a
/// connection that brings these bytes, in these pieces, and ends. A handler that
/// panics has its connection closed, as in a server.
///
/// ```
/// use std::io::Write;
/// use wirepath::{Request, ResponseWriter, httptest};
///
/// let hello = |w: &mut ResponseWriter, _: &mut Request| {
///     let _ = w.write_all(b"hello");
/// };
/// let answer = httptest::answer_to(hello, [b"GET / HT".as_slice(), b"TP/1.1\nHost: a\r\n\r\n"]);
/// assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request"));
/// ```
pub fn answer_to<'p>(handler: impl Handler, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let pieces = pieces.into_iter().map(<[u8]>::to_vec);
    let canned = Arc::new(Canned::in_pieces(pieces, nowhere, nowhere));
    let service = Arc::new(Service::new(Box::new(handler), Config::default()));
    let now = wirepath_runtime::now();
    let mut connection = Connection::new(service, canned.clone(), now);
    while connection.step() != Outcome::Done {}
    canned.take_written()
}
