//! WebSockets (RFC 6455), with tungstenite (feature `websocket`).
//!
//! ```
//! use wirepath::websocket::{Options, upgrade};
//! use wirepath::{Request, ResponseWriter};
//!
//! fn echo(w: &mut ResponseWriter, r: &mut Request) {
//!     // A request that is no handshake was answered already.
//!     let Ok(mut socket) = upgrade(w, r, &Options::default()) else {
//!         return;
//!     };
//!     while let Ok(Some(message)) = socket.recv() {
//!         if socket.send(message).is_err() {
//!             return;
//!         }
//!     }
//! }
//! # let _: &dyn wirepath::Handler = &echo;
//! ```
//!
//! A handler that returned an upgraded connection's last message has closed it.
//! The goroutine parks while it waits for the client; two may share a socket,
//! one that receives and one that sends: [`WebSocket::split`]. No extension is
//! spoken, so nothing is compressed.
//!
//! # Browsers on other sites
//!
//! A page of any site may open a WebSocket to any host, and the browser sends
//! that host's cookies along. So a handshake whose `Origin` is not of the host
//! that it asks for is refused with 403, unless [`Options::check_origin`] says
//! otherwise. Programs that are no browsers send no `Origin`, and pass.

mod handshake;
mod socket;

pub use handshake::{Options, UpgradeError, upgrade};
pub use socket::{Receiver, Sender, WebSocket};
/// The library below, for its types and for clients.
pub use tungstenite;
pub use tungstenite::protocol::CloseFrame;
pub use tungstenite::protocol::frame::coding::CloseCode;
pub use tungstenite::{Error, Message};

#[cfg(test)]
mod tests;
