//! A whole server in the test's process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use wirepath_runtime::net::{Network, TcpListener};
use wirepath_runtime::sync::Mutex;
use wirepath_runtime::{Handle, Runtime, now, yield_now};

use super::client::Client;
use super::pipe::{PipeEnd, pipe};
use super::request::{RequestBuilder, request};
use super::response::Response;
use crate::conn::{Connection, Outcome};
use crate::handler::Handler;
use crate::server::{ServeError, Server, ServerBuilder};

/// Where connections in memory are received: an address for documentation.
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 2], 80);
/// Where they come from, each from a port of its own.
const CLIENT: [u8; 4] = [192, 0, 2, 1];
/// The first of those ports.
const FIRST_PORT: u16 = 1024;
/// How long what the handlers do is waited for when the server is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server, with a runtime of its own; when it is started in a goroutine, in
/// that goroutine's runtime, which may be one in virtual time:
///
/// ```
/// use std::time::Duration;
/// use wirepath::Server;
/// use wirepath::httptest::TestServer;
/// use wirepath::runtime::{now, simulate};
///
/// let run = simulate(1, || {
///     let builder = Server::builder(wirepath::not_found).idle_timeout(Duration::from_secs(90));
///     let server = TestServer::with(builder);
///     let mut client = server.connect();
///     std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
///     let answer = client.response_to("GET").unwrap();
///     assert_eq!(answer.status(), 404);
///     // Nothing more is asked, so the server closes.
///     assert_eq!(std::io::Read::read(&mut client, &mut [0; 1]).unwrap(), 0);
/// });
/// assert_eq!(run.unwrap().elapsed, Duration::from_secs(90));
/// ```
///
/// Dropping it closes its connections and ends its runtime; [`Server::shutdown`]
/// of [`TestServer::server`] is the orderly way.
pub struct TestServer {
    server: Server,
    handle: Handle,
    /// If it is ours. Shut down, so that nothing of a test outlives it.
    runtime: Option<Runtime>,
    listening: Mutex<Option<SocketAddr>>,
    clients: AtomicU16,
}

impl TestServer {
    /// A server with the options that it has unless told otherwise.
    ///
    /// # Panics
    ///
    /// When the system has no thread or descriptor left for its runtime.
    pub fn start(handler: impl Handler) -> TestServer {
        TestServer::with(Server::builder(handler))
    }

    /// A server with these options.
    ///
    /// # Panics
    ///
    /// As [`TestServer::start`].
    pub fn with(builder: ServerBuilder) -> TestServer {
        let current = Handle::current();
        let runtime = current.is_none().then(|| {
            let built = Runtime::builder().build();
            built.expect("the system has threads and descriptors for a runtime")
        });
        let own = runtime.as_ref().map(Runtime::handle);
        TestServer {
            server: builder.build(),
            handle: current.or(own).expect("one of them is there"),
            runtime,
            listening: Mutex::new(None),
            clients: AtomicU16::new(FIRST_PORT),
        }
    }

    /// The server: to shut it down, or to ask for its counters.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The runtime that it is in.
    pub fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Opens a connection in memory. Once the server was shut down it is closed
    /// at once.
    pub fn connect(&self) -> Client {
        let port = self.clients.fetch_add(1, Ordering::Relaxed).max(FIRST_PORT);
        let (ours, theirs) = pipe(SocketAddr::from((CLIENT, port)), SERVER.into());
        self.serve(theirs);
        Client::new(ours)
    }

    /// Sends a request over a connection of its own, in memory, and waits for
    /// the response.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn send(&self, request: &RequestBuilder) -> io::Result<Response> {
        self.connect().send(request)
    }

    /// Asks for this target: a path and its query.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn get(&self, target: &str) -> io::Result<Response> {
        self.send(&request("GET", target))
    }

    /// Where any client on this machine finds the server: `http://127.0.0.1:PORT`.
    /// The first call opens the port.
    ///
    /// # Panics
    ///
    /// When no port of the loopback can be had, as in virtual time.
    pub fn url(&self) -> String {
        let mut listening = self.listening.lock();
        let address = *listening
            .get_or_insert_with(|| self.listen(|server, listener| server.serve(listener)));
        format!("http://{address}")
    }

    /// As [`TestServer::url`], over TLS: `https://127.0.0.1:PORT`. Each call
    /// opens a port.
    ///
    /// # Panics
    ///
    /// As [`TestServer::url`].
    #[cfg(feature = "tls")]
    pub fn tls_url(&self, tls: &crate::tls::TlsConfig) -> String {
        let tls = tls.clone();
        let address = self.listen(move |server, listener| server.serve_tls(listener, &tls));
        format!("https://{address}")
    }

    /// Serves a connection in memory, on a goroutine.
    fn serve(&self, end: PipeEnd) {
        let service = self.server.service();
        if service.is_draining() {
            return;
        }
        let conn = Arc::new(end);
        let mut connection = Connection::new(service.clone(), conn.clone(), now());
        let Some(registration) = service.register(connection.entry()) else {
            return;
        };
        self.handle.go(move || {
            let _registration = registration;
            loop {
                match connection.step() {
                    Outcome::Done => return,
                    Outcome::Yield => yield_now(),
                    Outcome::Readable => conn.wait_readable(),
                }
            }
        });
    }

    /// Opens a port, and serves it so.
    fn listen(
        &self,
        serve: impl FnOnce(Server, TcpListener) -> Result<(), ServeError> + Send + 'static,
    ) -> SocketAddr {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let binding = move || TcpListener::bind_on(Network::Kernel, loopback);
        let bound = self.handle.go(binding).join();
        let listener = bound.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let listener = listener.expect("the loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = self.server.clone();
        // That the server was shut down meanwhile, its owner knows.
        self.handle.go(move || drop(serve(server, listener)));
        address
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown(PATIENCE);
        }
    }
}

impl std::fmt::Debug for TestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestServer")
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}
