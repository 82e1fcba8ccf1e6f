//! Serving TLS.

use std::sync::Arc;

use wirepath_runtime::net::TcpListener;
use wirepath_runtime::now;

use super::{TlsConfig, TlsConn};
use crate::conn::Conn;
use crate::net::NetConn;
use crate::server::{ServeError, Server, listen};

impl Server {
    /// Listens as [`Server::listen_and_serve`] does, and serves TLS there.
    ///
    /// # Errors
    ///
    /// As [`Server::listen_and_serve`].
    pub fn listen_and_serve_tls(&self, address: &str, tls: &TlsConfig) -> Result<(), ServeError> {
        self.serve_tls(listen(address)?, tls)
    }

    /// As [`Server::serve`], over TLS. A server may serve plain HTTP on other
    /// listeners meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    pub fn serve_tls(&self, listener: TcpListener, tls: &TlsConfig) -> Result<(), ServeError> {
        let tls = tls.clone();
        self.accept(
            listener,
            Box::new(move |server, net| wrap(server, net, &tls)),
        )
    }
}

/// A session over `net` that is still to begin.
fn wrap(server: &Server, net: &Arc<NetConn>, tls: &TlsConfig) -> Option<Arc<dyn Conn>> {
    let until = now() + server.service().config.read_header_timeout;
    match TlsConn::new(net.clone(), tls.rustls().clone(), until) {
        Ok(conn) => Some(Arc::new(conn)),
        Err(e) => {
            tracing::error!(peer = %net.peer_addr(), "a TLS session cannot begin: {e}");
            None
        }
    }
}
