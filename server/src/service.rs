//! What the connections of a server share: its handler, options, counters, and
//! the list of them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wirepath_runtime::context::Context;
use wirepath_runtime::net::TcpListener;

use crate::admission::{Gate, Refusal, Ticket};
use crate::conn::{Conn, Entry, MinRate, Pool};
use crate::context::Scope;
use crate::handler::Handler;
use crate::hooks::{ConnInfo, ConnState, Hooks};
use crate::panic::note_panics;
use crate::stats::Stats;
use crate::targets;

/// What Go allows beyond the header limit: the size of its read buffer.
const HEAD_SLACK_BYTES: usize = 4096;

/// The options of a server.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub read_header_timeout: Duration,
    pub read_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
    pub idle_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_header_fields: usize,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub min_body_rate: Option<MinRate>,
    pub min_response_rate: Option<MinRate>,
}

/// In nanoseconds, or what is for ever.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Config {
    /// How long a head may take. One is read before its body, so what bounds
    /// both bounds it.
    pub fn head_timeout(&self) -> Duration {
        let whole = self.read_timeout.unwrap_or(Duration::MAX);
        self.read_header_timeout.min(whole)
    }

    pub fn max_head_bytes(&self) -> usize {
        self.max_header_bytes.saturating_add(HEAD_SLACK_BYTES)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            read_header_timeout: Duration::from_secs(10),
            read_timeout: None,
            write_timeout: None,
            idle_timeout: Duration::from_secs(120),
            max_header_bytes: 1 << 20,
            max_header_fields: 500,
            max_connections: 1 << 20,
            max_connections_per_address: 1 << 14,
            min_body_rate: Some(MinRate {
                bytes_per_second: 240,
                grace: Duration::from_secs(30),
            }),
            min_response_rate: Some(MinRate {
                bytes_per_second: 240,
                grace: Duration::from_secs(60),
            }),
        }
    }
}

/// To be called, in a goroutine, when the server is shut down.
pub(crate) type OnShutdown = Box<dyn FnOnce() + Send>;

/// What a server's connections share.
pub(crate) struct Service {
    pub handler: Box<dyn Handler>,
    pub config: Config,
    pub pool: Pool,
    pub stats: Stats,
    pub hooks: Hooks,
    /// When the server was made.
    #[cfg_attr(not(feature = "see"), allow(dead_code, reason = "shown by `see`"))]
    pub made_at: wirepath_runtime::Nanos,
    listeners: Mutex<Vec<Arc<TcpListener>>>,
    gate: Arc<Gate>,
    draining: AtomicBool,
    closed: AtomicBool,
    /// Whether a connection may carry more than one request.
    keep_alives: AtomicBool,
    on_shutdown: Mutex<Vec<OnShutdown>>,
    connections: Mutex<HashMap<u64, Arc<Entry>>>,
    next_id: AtomicU64,
}

impl Service {
    pub fn new(handler: Box<dyn Handler>, config: Config) -> Service {
        note_panics();
        Service {
            gate: Arc::new(Gate::new(
                config.max_connections,
                config.max_connections_per_address,
            )),
            handler,
            config,
            pool: Pool::default(),
            stats: Stats::default(),
            hooks: Hooks::default(),
            made_at: wirepath_runtime::clock::now(),
            listeners: Mutex::default(),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            keep_alives: AtomicBool::new(true),
            on_shutdown: Mutex::default(),
            connections: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    pub fn with_hooks(self, hooks: Hooks) -> Service {
        Service { hooks, ..self }
    }

    /// A new connection, with a number.
    pub fn info(&self, conn: &dyn Conn) -> ConnInfo {
        ConnInfo {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            remote: conn.peer_addr(),
            local: conn.local_addr(),
        }
    }

    /// For the contexts of a connection, of a listener with the context `base`
    /// or of none.
    pub fn scope(self: &Arc<Self>, base: Option<Context>, info: &ConnInfo) -> Scope {
        let mut scope = Scope::new(self, base);
        if let Some(hook) = &self.hooks.conn_context {
            scope.change(|context| hook(context, info));
        }
        scope
    }

    /// Tells the owner of a connection's state.
    pub fn report(&self, info: &ConnInfo, state: ConnState) {
        if let Some(hook) = &self.hooks.conn_state {
            hook(info, state);
        }
    }

    /// What the server accepts from.
    pub fn listeners(&self) -> MutexGuard<'_, Vec<Arc<TcpListener>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server is on its way to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// From now on a response is the last of its connection.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether a connection may carry another request.
    pub fn keeps_alive(&self) -> bool {
        !self.is_draining() && self.keep_alives.load(Ordering::SeqCst)
    }

    pub fn set_keep_alives(&self, enabled: bool) {
        self.keep_alives.store(enabled, Ordering::SeqCst);
    }

    /// What is to be called at the first shutdown.
    pub fn on_shutdown(&self) -> MutexGuard<'_, Vec<OnShutdown>> {
        self.on_shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection from `address` in, or counts it as refused.
    pub fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let refusal = match self.gate.admit(address) {
            Ok(ticket) => return Some(ticket),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Full => self.stats.connections_refused.add(1),
            Refusal::FullForAddress => self.stats.connections_refused_per_address.add(1),
        }
        tracing::debug!(target: targets::LIMIT, %address, ?refusal, "connection refused");
        None
    }

    fn list(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in and lists it until what is returned is dropped;
    /// `None` when there are as many as there may be.
    pub fn register(self: &Arc<Self>, entry: &Arc<Entry>) -> Option<Registration> {
        let ticket = self.admit(entry.info.remote.ip())?;
        Some(self.enter(ticket, entry))
    }

    /// Lists a connection that was let in.
    pub fn enter(self: &Arc<Self>, ticket: Ticket, entry: &Arc<Entry>) -> Registration {
        let mut list = self.list();
        list.insert(entry.info.id, entry.clone());
        drop(list);
        if self.closed.load(Ordering::SeqCst) {
            // Accepted before, and too late for `close` to find it.
            entry.close();
        }
        self.stats.connections_accepted.add(1);
        self.stats.connections_open.add(1);
        self.report(&entry.info, ConnState::New);
        Registration {
            service: self.clone(),
            info: entry.info,
            _ticket: ticket,
        }
    }

    /// Resets every connection, and each that is entered from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for entry in self.entries() {
            entry.close();
        }
    }

    /// The connections that are open, but for those that handlers took over.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        let list = self.list();
        list.values()
            .filter(|e| !e.is_hijacked())
            .cloned()
            .collect()
    }
}

/// A connection's place in the list.
pub(crate) struct Registration {
    service: Arc<Service>,
    info: ConnInfo,
    _ticket: Ticket,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let entry = self.service.list().remove(&self.info.id);
        self.service.stats.connections_open.sub(1);
        // The last to hold it closes it, and nothing is locked.
        let is_hijacked = entry.is_some_and(|entry| entry.is_hijacked());
        if !is_hijacked {
            self.service.report(&self.info, ConnState::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::conn::testing::{connect, service};

    #[test]
    fn a_connection_that_comes_too_late_for_a_close_is_reset_too() {
        let service = service(crate::not_found);
        let (early, first) = connect(&service);
        let _early = service.register(early.entry());
        service.close();
        let (late, second) = connect(&service);
        let _late = service.register(late.entry());
        assert!(first.aborted() && second.aborted());
    }
}
