//! The options of a server.

use std::sync::Arc;
use std::time::Duration;

use wirepath_runtime::context::Context;
use wirepath_runtime::net::TcpListener;

use super::Server;
use crate::conn::MinRate;
use crate::handler::Handler;
use crate::hooks::{ConnInfo, ConnState, Hooks};
use crate::service::{Config, Service};

/// Makes a [`Server`].
pub struct ServerBuilder {
    handler: Box<dyn Handler>,
    config: Config,
    hooks: Hooks,
}

impl ServerBuilder {
    pub(super) fn new(handler: impl Handler) -> ServerBuilder {
        ServerBuilder {
            handler: Box::new(handler),
            config: Config::default(),
            hooks: Hooks::default(),
        }
    }

    /// How long a request's head may take, from its first byte, or from the
    /// start of the connection for the first. 10 s unless set.
    #[must_use]
    pub fn read_header_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.config.read_header_timeout = timeout;
        self
    }

    /// How long the reading of a request may take, head and body, from its first
    /// byte. A read of a body fails with `TimedOut` then, and the connection is
    /// closed after the response. Without limit unless set.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> ServerBuilder {
        self.config.read_timeout = timeout;
        self
    }

    /// How long a response may take to write, from the end of the request's
    /// head. A write fails with `TimedOut` then, and the connection is closed.
    /// Without limit unless set.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> ServerBuilder {
        self.config.write_timeout = timeout;
        self
    }

    /// How long a connection may wait for its next request. 120 s unless set.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.config.idle_timeout = timeout;
        self
    }

    /// Bytes of a request's head, and as in Go 4 KiB more. 1 MiB unless set.
    #[must_use]
    pub fn max_header_bytes(mut self, bytes: usize) -> ServerBuilder {
        self.config.max_header_bytes = bytes;
        self
    }

    /// Header fields of a request. 500 unless set.
    #[must_use]
    pub fn max_header_fields(mut self, fields: usize) -> ServerBuilder {
        self.config.max_header_fields = fields;
        self
    }

    /// Connections at a time; one more is reset at once. A million unless set.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> ServerBuilder {
        self.config.max_connections = connections;
        self
    }

    /// Connections at a time from one client address (of IPv6: from one network
    /// of 64 bits); one more is reset at once. 16,384 unless set; a server
    /// behind a proxy sees all its clients at the proxy's address.
    #[must_use]
    pub fn max_connections_per_address(mut self, connections: usize) -> ServerBuilder {
        self.config.max_connections_per_address = connections;
        self
    }

    /// How slowly a client may send a request's body while a handler waits for
    /// it. A slower one makes the read fail with `TimedOut` and a
    /// [`TooSlow`](crate::TooSlow) within, and the connection is closed after
    /// the response. 240 bytes a second after 30 s of grace unless set; `None`
    /// for no limit.
    #[must_use]
    pub fn min_body_rate(mut self, rate: Option<MinRate>) -> ServerBuilder {
        self.config.min_body_rate = rate;
        self
    }

    /// How slowly a client may take a response while the server waits for room
    /// to send more. A slower one makes the write fail with `TimedOut`, and its
    /// connection is reset. 240 bytes a second after 60 s of grace unless set; `None` for no limit.
    #[must_use]
    pub fn min_response_rate(mut self, rate: Option<MinRate>) -> ServerBuilder {
        self.config.min_response_rate = rate;
        self
    }

    /// Has `hook` called for each change of a connection's state, in the
    /// goroutine that serves it (for `New` in the one that accepts): it should
    /// be quick. See [`ConnState`] for the order.
    #[must_use]
    pub fn conn_state(
        mut self,
        hook: impl Fn(&ConnInfo, ConnState) + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.hooks.conn_state = Some(Box::new(hook));
        self
    }

    /// Has the contexts of all requests made from what `hook` returns, which is
    /// called once for each listener. [`Context::background`] unless set.
    #[must_use]
    pub fn base_context(
        mut self,
        hook: impl Fn(&TcpListener) -> Context + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.hooks.base_context = Some(Box::new(hook));
        self
    }

    /// Has the contexts of a connection's requests made from what `hook`
    /// returns, which is called once for each connection, when it was accepted,
    /// with a context made from the listener's that has the [`Server`].
    #[must_use]
    pub fn conn_context(
        mut self,
        hook: impl Fn(Context, &ConnInfo) -> Context + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.hooks.conn_context = Some(Box::new(hook));
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        let service = Service::new(self.handler, self.config).with_hooks(self.hooks);
        Server {
            service: Arc::new(service),
        }
    }
}
