//! What a server tells its owner of each connection, and what the owner gives
//! to its requests.

use std::fmt;
use std::net::SocketAddr;

use wirepath_runtime::context::Context;
use wirepath_runtime::net::TcpListener;
use wirepath_runtime::{Nanos, now};

/// A connection of a server, for hooks and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    pub(crate) id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl ConnInfo {
    /// Its number among all connections of the server since its start.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's address.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The server's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// What a connection does, as in Go.
///
/// It begins as `New` and ends as `Closed` or `Hijacked`. In between it is
/// `Active` from when a request's head was read (or refused) until the response
/// was written, and `Idle` from then on if it can carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnState {
    /// It was accepted, and is expected to send a request.
    New,
    /// It is in a request.
    Active,
    /// It has answered a request and waits for another.
    Idle,
    /// A handler took it over; the server knows no more of it.
    Hijacked,
    /// It was closed.
    Closed,
}

impl fmt::Display for ConnState {
    /// Go's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnState::New => "new",
            ConnState::Active => "active",
            ConnState::Idle => "idle",
            ConnState::Hijacked => "hijacked",
            ConnState::Closed => "closed",
        })
    }
}

/// What a connection does at a moment: in
/// [`Server::connections`](crate::Server::connections), and in what a shutdown
/// left open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenConnection {
    /// The connection.
    pub info: ConnInfo,
    /// What it does.
    pub state: ConnState,
    /// Since when, by the runtime's clock; for `Active` to a second or so.
    pub since: Nanos,
    /// The method and target of the request that it is in, cut after 64 bytes.
    /// `None` between requests, and while a head comes.
    pub request: Option<String>,
}

impl fmt::Display for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = now().since(self.since).as_secs();
        write!(f, "{} {} for {secs} s", self.info.remote, self.state)?;
        match &self.request {
            Some(request) => write!(f, " in {request}"),
            None => Ok(()),
        }
    }
}

pub(crate) type StateHook = Box<dyn Fn(&ConnInfo, ConnState) + Send + Sync>;
pub(crate) type BaseContextHook = Box<dyn Fn(&TcpListener) -> Context + Send + Sync>;
pub(crate) type ConnContextHook = Box<dyn Fn(Context, &ConnInfo) -> Context + Send + Sync>;

/// The functions that a server's owner gave.
#[derive(Default)]
pub(crate) struct Hooks {
    pub conn_state: Option<StateHook>,
    pub base_context: Option<BaseContextHook>,
    pub conn_context: Option<ConnContextHook>,
}
