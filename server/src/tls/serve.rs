//! Serving TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::now;

use super::{TlsConfig, TlsConn};
use crate::net::NetConn;
use crate::server::{ServeError, Server};

impl Server {
    /// As [`Server::serve`], over TLS. A server may serve plain HTTP on other
    /// listeners meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    pub fn serve_tls(&self, listener: TcpListener, tls: &TlsConfig) -> Result<(), ServeError> {
        let tls = tls.clone();
        let take_in = move |server: &Server, stream, peer| server.take_in_tls(stream, peer, &tls);
        self.accept(listener, Box::new(take_in))
    }

    fn take_in_tls(&self, stream: TcpStream, peer: SocketAddr, tls: &TlsConfig) {
        // One that is over already has no addresses.
        let Ok(net) = NetConn::new(stream, peer).map(Arc::new) else {
            return;
        };
        let until = now() + self.service().config.read_header_timeout;
        match TlsConn::new(net.clone(), tls.rustls().clone(), until) {
            Ok(conn) => self.start(Arc::new(conn), net),
            Err(e) => tracing::error!(%peer, "a TLS session cannot begin: {e}"),
        }
    }
}
