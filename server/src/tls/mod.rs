//! HTTPS, with rustls (feature `tls`).
//!
//! ```no_run
//! use std::sync::Arc;
//! use wirepath::runtime::net::TcpListener;
//! use wirepath::tls::{Certificates, TlsConfig};
//! use wirepath::{ServeMux, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let certificates = Arc::new(Certificates::from_files("cert.pem", "key.pem")?);
//! let tls = TlsConfig::new(certificates.clone())?;
//! // In a goroutine of a runtime; another may call `certificates.reload()`.
//! let listener = TcpListener::bind(([10, 0, 0, 2], 443))?;
//! Server::new(ServeMux::new()).serve_tls(listener, &tls)?;
//! # Ok(())
//! # }
//! ```
//!
//! TLS 1.2 and 1.3, with what rustls offers of them through ring. HTTP/2 is not
//! spoken, so ALPN (RFC 7301) offers `http/1.1` alone: a client that asks only
//! for something else is refused. A handshake has the time that a request's
//! head has, and like the wait for one it holds no stack. A client that speaks
//! plain HTTP to a TLS port is told so, with 400, as by Go.
//!
//! A connection that ends without TLS's own word of farewell (`close_notify`)
//! may have been cut by anyone: reads fail with `UnexpectedEof` then, so that
//! no part of a message is taken for the whole.
//!
//! A handler asks [`Request::tls`](crate::Request::tls) for what was agreed.

mod certificates;
mod config;
mod conn;
mod serve;

pub use certificates::Certificates;
pub use config::{ClientAuth, TlsConfig, TlsConfigBuilder, TlsError};
pub(crate) use conn::{TlsConn, Transport};

/// The library that does it, for its types in [`TlsInfo`] and for
/// [`TlsConfig::from_rustls`].
pub use rustls;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};

/// What the two sides of a TLS connection agreed on. As Go's
/// `tls.ConnectionState`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version of TLS.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The protocol that the client asked for, if it asked (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The host that the client asked for (RFC 6066 §3).
    pub server_name: Option<String>,
    /// The client's certificate, and those that vouch for it; empty if it
    /// showed none. They were verified against the roots of [`ClientAuth`].
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Whether it goes on from an earlier connection's secrets.
    pub is_resumed: bool,
}

impl TlsInfo {
    /// Of a connection whose handshake is over.
    fn of(session: &ServerConnection) -> Option<TlsInfo> {
        Some(TlsInfo {
            version: session.protocol_version()?,
            cipher_suite: session.negotiated_cipher_suite()?.suite(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            server_name: session.server_name().map(str::to_owned),
            peer_certificates: session.peer_certificates().unwrap_or_default().to_vec(),
            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}
