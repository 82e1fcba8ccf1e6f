//! A log of requests: one entry for each that was answered.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use wirepath_runtime::now;

use crate::handler::Handler;
use crate::request::Request;
use crate::response::ResponseWriter;

/// A handler whose requests are logged: one [`LogEntry`] for each, once its
/// handler has returned or panicked.
///
/// Put it outermost, so that what other middleware answers is logged too.
///
/// ```
/// use wirepath::{RequestLog, ServeMux, Server};
///
/// let mux = ServeMux::new();
/// // Events of `tracing`, at INFO, with the target `wirepath::access`:
/// let server = Server::new(RequestLog::new(mux));
///
/// // Lines as Apache and nginx write them:
/// let mux = ServeMux::new();
/// let logged = RequestLog::to(mux, |entry| println!("{}", entry.combined()));
/// ```
pub struct RequestLog<H, F = fn(&LogEntry<'_>)> {
    handler: H,
    write: F,
}

impl<H: Handler> RequestLog<H> {
    /// Logs each request as an event of `tracing`, at level INFO with the
    /// target `wirepath::access` and the fields of the entry.
    pub fn new(handler: H) -> RequestLog<H> {
        RequestLog {
            handler,
            write: event,
        }
    }
}

impl<H: Handler, F: Fn(&LogEntry<'_>) + Send + Sync + 'static> RequestLog<H, F> {
    /// Hands each request's entry to `write`, on the request's goroutine: a
    /// write that blocks the thread keeps others of it waiting.
    pub fn to(handler: H, write: F) -> RequestLog<H, F> {
        RequestLog { handler, write }
    }
}

fn event(entry: &LogEntry<'_>) {
    tracing::info!(
        target: "wirepath::access",
        peer = %entry.peer,
        method = %entry.method,
        target = entry.target,
        route = entry.route,
        status = entry.status.map(|s| s.as_u16()),
        bytes = entry.bytes,
        duration_us = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX),
        "request answered"
    );
}

/// What is logged of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogEntry<'a> {
    /// Where it came from.
    pub peer: SocketAddr,
    /// When it came.
    pub received: SystemTime,
    /// Its method.
    pub method: &'a Method,
    /// Its target, as on the request line.
    pub target: &'a str,
    /// Its version, as on the request line.
    pub proto: &'a str,
    /// The pattern of the mux that matched; empty if none did.
    pub route: &'a str,
    /// The status; `None` when the handler panicked before it wrote one.
    pub status: Option<StatusCode>,
    /// Bytes of the body that the handler wrote.
    pub bytes: u64,
    /// How long the handler took.
    pub duration: Duration,
    /// The request's `Referer`.
    pub referer: Option<&'a str>,
    /// The request's `User-Agent`.
    pub user_agent: Option<&'a str>,
}

impl LogEntry<'_> {
    /// The entry as a line in Apache's combined log format, without its line
    /// end. What the client chose is escaped as Apache does it: no quote, no
    /// control byte and nothing beyond ASCII comes through.
    ///
    /// The time is of UTC, and the user is `-` always.
    pub fn combined(&self) -> impl fmt::Display + '_ {
        Combined(self)
    }
}

struct Combined<'a>(&'a LogEntry<'a>);

impl fmt::Display for Combined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        write!(f, "{} - - [", entry.peer.ip())?;
        write_time(f, entry.received)?;
        let (method, target) = (Escaped(entry.method.as_str()), Escaped(entry.target));
        write!(f, "] \"{method} {target} {}\" ", Escaped(entry.proto))?;
        match entry.status {
            Some(status) => f.write_str(status.as_str())?,
            None => f.write_str("-")?,
        }
        match entry.bytes {
            0 => f.write_str(" -")?,
            n => write!(f, " {n}")?,
        }
        let referer = Escaped(entry.referer.unwrap_or("-"));
        let agent = Escaped(entry.user_agent.unwrap_or("-"));
        write!(f, " \"{referer}\" \"{agent}\"")
    }
}

/// `10/Oct/2000:13:55:36 +0000`, of the date that HTTP writes as
/// `Tue, 10 Oct 2000 13:55:36 GMT`.
fn write_time(f: &mut fmt::Formatter<'_>, time: SystemTime) -> fmt::Result {
    let date = httpdate::fmt_http_date(time);
    let mut parts = date.split(' ').skip(1);
    let mut part = || parts.next().unwrap_or("-");
    let (day, month, year, clock) = (part(), part(), part(), part());
    write!(f, "{day}/{month}/{year}:{clock} +0000")
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\t' => f.write_str("\\t")?,
                b' '..=b'~' => write!(f, "{}", byte as char)?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl<H: Handler, F: Fn(&LogEntry<'_>) + Send + Sync + 'static> Handler for RequestLog<H, F> {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        // The handler may take the request away, or change it.
        let method = r.method().clone();
        let (target, proto) = (r.target().to_owned(), r.proto().to_owned());
        let field = |name| r.header(name).map(std::borrow::Cow::into_owned);
        let (referer, user_agent) = (field("Referer"), field("User-Agent"));
        let (peer, received, started) = (r.remote_addr(), SystemTime::now(), now());
        let panic = catch_unwind(AssertUnwindSafe(|| self.handler.serve(w, r))).err();
        let fallback = panic.is_none().then_some(StatusCode::OK);
        (self.write)(&LogEntry {
            peer,
            received,
            method: &method,
            target: &target,
            proto: &proto,
            route: r.pattern(),
            status: w.status().or(fallback),
            bytes: w.written(),
            duration: now().since(started),
            referer: referer.as_deref(),
            user_agent: user_agent.as_deref(),
        });
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl<H, F> fmt::Debug for RequestLog<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ServeMux;
    use crate::httptest::{RequestBuilder, request};

    /// The combined lines of what `handler` answers, without the time.
    fn lines(handler: impl Handler, requests: Vec<RequestBuilder>) -> Vec<String> {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let log = RequestLog::to(handler, move |entry: &LogEntry<'_>| {
            let line = entry.combined().to_string();
            let (before, rest) = line.split_once('[').unwrap();
            let (_, after) = rest.split_once(']').unwrap();
            sink.lock().unwrap().push(format!("{before}[]{after}"));
        });
        for r in requests {
            let _ = catch_unwind(AssertUnwindSafe(|| r.serve(&log)));
        }
        std::mem::take(&mut lines.lock().unwrap())
    }

    #[test]
    fn combined_lines() {
        let mut mux = ServeMux::new();
        mux.handle_func("/{$}", |w, _| w.write_all(b"hello").unwrap());
        mux.handle_func("/panic", |_, _| panic!("on purpose"));
        mux.handle_func("/nothing", |_, _| ());
        let get = |target: &str| request("GET", target);
        let evil = get("/nothing?a=\"b\\c").header("User-Agent", "x\"y\\z\t\u{e9}");
        let got = lines(
            mux,
            vec![
                get("/").header("Referer", "http://a/"),
                get("/none").http_10().header("User-Agent", "curl/8"),
                get("/panic"),
                evil,
            ],
        );
        let want = [
            r#"192.0.2.1 - - [] "GET / HTTP/1.1" 200 5 "http://a/" "-""#,
            r#"192.0.2.1 - - [] "GET /none HTTP/1.0" 404 19 "-" "curl/8""#,
            r#"192.0.2.1 - - [] "GET /panic HTTP/1.1" - - "-" "-""#,
            r#"192.0.2.1 - - [] "GET /nothing?a=\"b\\c HTTP/1.1" 200 - "-" "x\"y\\z\t\xc3\xa9""#,
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn the_time_is_apaches() {
        struct Time(SystemTime);
        impl fmt::Display for Time {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_time(f, self.0)
            }
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(971_186_136);
        assert_eq!(Time(time).to_string(), "10/Oct/2000:13:55:36 +0000");
    }
}
