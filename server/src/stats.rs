//! What a server counts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::request::HeadError;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of a server, since its start.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            refusals: Refusals,
        }

        impl Stats {
            /// Names and values; of the reasons for refusals those that there
            /// were.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                let mut list = vec![$((stringify!($name), self.$name.get()),)*];
                list.extend(self.refusals.list());
                list
            }
        }
    };
}

counters! {
    /// Connections taken in.
    connections_accepted,
    /// Connections reset at once, there being too many in all.
    connections_refused,
    /// Connections reset at once, there being too many from their address.
    connections_refused_per_address,
    /// Failures to accept a connection.
    accept_failures,
    /// Connections closed since a request's head took too long.
    heads_timed_out,
    /// Connections closed since no other request came in time.
    idle_timed_out,
    /// Requests whose body came below the least rate.
    bodies_too_slow,
    /// Responses that were taken below the least rate: their connections were
    /// reset.
    responses_too_slow,
    /// Connections that are open.
    connections_open,
    /// Requests whose head was understood.
    requests,
    /// Requests whose head was refused.
    requests_refused,
    /// Responses with an informational status as the last, that is 101.
    responses_1xx,
    /// Responses with a status of success.
    responses_2xx,
    /// Redirects and 304.
    responses_3xx,
    /// Responses that blame the client, refused heads included.
    responses_4xx,
    /// Responses that blame the server, refused heads included.
    responses_5xx,
    /// Handlers that panicked.
    panics,
    /// Bytes read from connections.
    bytes_in,
    /// Bytes written to connections.
    bytes_out,
}

impl Stats {
    /// Counts a head that was refused, in all and for its reason.
    #[cold]
    pub fn count_refusal(&self, e: HeadError) {
        self.requests_refused.add(1);
        self.refusals.add(e.counter());
        self.count_response(e.status());
    }

    pub fn count_response(&self, status: http::StatusCode) {
        match status.as_u16() / 100 {
            1 => self.responses_1xx.add(1),
            2 => self.responses_2xx.add(1),
            3 => self.responses_3xx.add(1),
            4 => self.responses_4xx.add(1),
            _ => self.responses_5xx.add(1),
        }
    }
}

/// How often heads were refused for each reason, by the counter's name. As
/// long as there are reasons at most.
#[derive(Debug, Default)]
struct Refusals(Mutex<Vec<(&'static str, u64)>>);

impl Refusals {
    fn add(&self, name: &'static str) {
        let mut counts = self.0.lock().expect("nothing panics while it is held");
        match counts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }

    fn list(&self) -> Vec<(&'static str, u64)> {
        self.0
            .lock()
            .expect("nothing panics while it is held")
            .clone()
    }
}

/// A number that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
