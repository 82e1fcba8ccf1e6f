//! What a server shows of itself.

use wirepath_runtime::Handle;

use super::state::{self, LedgerRow, State};
use crate::server::Server;

/// How many of each a state lists at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Flows.
    pub flows: usize,
    /// Goroutines.
    pub goroutines: usize,
    /// Requests.
    pub requests: usize,
}

/// What a state is made of.
#[derive(Clone)]
pub struct Scene {
    runtime: Handle,
}

impl Scene {
    /// The scene of a runtime.
    pub fn new(runtime: Handle) -> Scene {
        Scene { runtime }
    }

    /// With a server.
    #[must_use]
    pub fn server(self, _server: Server) -> Scene {
        self
    }

    /// With a ledger.
    #[must_use]
    pub fn ledger(self, _rows: impl Fn() -> Vec<LedgerRow> + Send + Sync + 'static) -> Scene {
        self
    }

    /// The state now.
    pub fn state(&self, _wanted: &Wanted) -> State {
        let _ = &self.runtime;
        State {
            version: state::VERSION,
            ..State::default()
        }
    }
}
