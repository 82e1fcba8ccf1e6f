//! The server: its options, its connections, its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::conn::{Entry, Pool};
use crate::handler::Handler;
use crate::stats::Stats;

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
}

impl Config {
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
        }
    }
}

/// What a server's connections share.
pub(crate) struct Service {
    pub handler: Box<dyn Handler>,
    pub config: Config,
    pub pool: Pool,
    pub stats: Stats,
    draining: AtomicBool,
    connections: Mutex<HashMap<u64, Arc<Entry>>>,
    next_id: AtomicU64,
}

impl Service {
    pub fn new(handler: Box<dyn Handler>, config: Config) -> Service {
        Service {
            handler,
            config,
            pool: Pool::default(),
            stats: Stats::default(),
            draining: AtomicBool::new(false),
            connections: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    /// Whether the server is on its way to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
