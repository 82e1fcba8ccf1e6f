//! The memory of a request and its response, reused.

use std::sync::{Arc, Mutex, PoisonError};

use super::wire::Wire;
use crate::request::Request;
use crate::response::ResponseWriter;

/// Exchanges that are kept for the next connection that needs one.
const POOL_LIMIT: usize = 256;

/// A request and the response to it. A connection has one from the first byte
/// of a head until it waits for the next with nothing buffered.
pub(crate) struct Exchange {
    pub request: Request,
    pub response: ResponseWriter,
}

/// Exchanges without a connection.
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a connection holds the same box")]
    free: Mutex<Vec<Box<Exchange>>>,
}

impl Pool {
    pub fn take(&self, wire: &Arc<Wire>) -> Box<Exchange> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let pooled = free.pop();
        drop(free);
        let mut exchange = pooled.unwrap_or_else(|| {
            Box::new(Exchange {
                request: Request::new(),
                response: ResponseWriter::new(),
            })
        });
        exchange.request.attach(wire);
        exchange.response.attach(wire.clone());
        exchange
    }

    pub fn put(&self, mut exchange: Box<Exchange>) {
        exchange.request.detach();
        exchange.response.detach();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < POOL_LIMIT {
            free.push(exchange);
        }
    }
}
