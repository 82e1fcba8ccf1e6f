//! Pages about the running process, below `/debug/`, as Go's packages `expvar`
//! and `net/http/pprof` have them.
//!
//! | page | what it shows |
//! | --- | --- |
//! | `/debug/` | what pages there are |
//! | `/debug/vars` | published variables, as JSON: [`publish`] |
//! | `/debug/pprof/` | the same list, where Go has it |
//! | `/debug/pprof/goroutine` | all goroutines, as [`Handle::dump`] writes them; `?debug=1` counts them by where they were started |
//! | `/debug/pprof/threads` | the process's threads, from `/proc` |
//! | `/debug/pprof/heap` | the process's memory, from `/proc`: no samples of who allocated it |
//! | `/debug/pprof/cmdline` | the command line, NUL between its arguments |
//!
//! There is no CPU profile: sampling stacks that switch needs a signal handler
//! that can walk them, and `perf` does it from outside.
//!
//! The pages tell a stranger much, so only some addresses see them: loopback,
//! private and link-local ones, unless [`Pages::allow`] says otherwise. Behind a
//! proxy all requests come from the proxy: let it not forward `/debug/`.

mod vars;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use wirepath_runtime::{Handle, blocking};

use crate::handler::Handler;
use crate::mux::ServeMux;
use crate::request::Request;
use crate::response::{ResponseWriter, error};
pub use vars::{Float, Int, NameTaken, Text, Var, publish, vars_json};

/// Goroutines that a dump lists at most: 150 bytes each, more or less.
const MOST_GOROUTINES: usize = 10_000;
/// Threads that are listed at most.
const MOST_THREADS: usize = 10_000;

const INDEX: &str = "\
/debug/ of this process

/debug/vars                     published variables (JSON)
/debug/pprof/goroutine?debug=2  all goroutines
/debug/pprof/goroutine?debug=1  goroutines by where they were started
/debug/pprof/threads            threads
/debug/pprof/heap               memory of the process
/debug/pprof/cmdline            command line

There is no CPU profile: use `perf record -g -p PID`.
";

/// Who may see the pages.
type Allow = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The pages, to be registered with a mux.
///
/// ```
/// use wirepath::{ServeMux, debug};
///
/// let mut mux = ServeMux::new();
/// debug::Pages::new().register(&mut mux);
/// let get = wirepath::httptest::request("GET", "/debug/vars");
/// let stranger = get.clone().remote_addr(([8, 8, 8, 8], 1)).serve(&mux);
/// assert_eq!(stranger.status(), 403);
/// let neighbour = get.remote_addr(([127, 0, 0, 1], 1)).serve(&mux);
/// assert_eq!(neighbour.header("Content-Type"), Some("application/json; charset=utf-8"));
/// ```
#[derive(Clone)]
pub struct Pages {
    allow: Allow,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::new()
    }
}

impl Pages {
    /// The pages, for near addresses: see [`is_near`].
    pub fn new() -> Pages {
        Pages {
            allow: Arc::new(is_near),
        }
    }

    /// Decides by the address that a request comes from who sees the pages.
    #[must_use]
    pub fn allow(self, allow: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Pages {
        Pages {
            allow: Arc::new(allow),
        }
    }

    /// A handler that does what `handler` does for who may see the pages, and
    /// answers 403 (Forbidden) to others.
    pub fn guard<H: Handler>(&self, handler: H) -> impl Handler + use<H> {
        let allow = self.allow.clone();
        move |w: &mut ResponseWriter, r: &mut Request| {
            let from = r.remote_addr().ip();
            if allow(from) {
                return handler.serve(w, r);
            }
            let why = format!(
                "pages below /debug/ are not shown to {from}: \
                 ask from the machine itself, or have its owner allow this address"
            );
            error(w, &why, StatusCode::FORBIDDEN);
        }
    }

    /// Registers the pages, for GET and HEAD.
    ///
    /// # Panics
    ///
    /// As [`ServeMux::handle`]: when a pattern of the mux conflicts.
    pub fn register(&self, mux: &mut ServeMux) {
        let mut add = |path: &str, handler: fn(&mut ResponseWriter, &mut Request)| {
            mux.handle(&format!("GET {path}"), self.guard(handler));
        };
        add("/debug/{$}", index);
        add("/debug/pprof/{$}", index);
        add("/debug/vars", vars_page);
        add("/debug/pprof/goroutine", goroutines);
        add("/debug/pprof/threads", threads);
        add("/debug/pprof/heap", heap);
        add("/debug/pprof/cmdline", cmdline);
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// Whether an address is near: loopback, private (RFC 1918), unique local
/// (RFC 4193), or link-local. An IPv4 address within IPv6 is what it is.
pub fn is_near(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Writes a page. An error says that the client is gone.
fn page(w: &mut ResponseWriter, kind: &str, body: &str) {
    w.header("Content-Type", kind);
    w.header("X-Content-Type-Options", "nosniff");
    w.header("Cache-Control", "no-store");
    let _ = w.write_all(body.as_bytes());
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn index(w: &mut ResponseWriter, _: &mut Request) {
    page(w, PLAIN, INDEX);
}

fn vars_page(w: &mut ResponseWriter, r: &mut Request) {
    let server = r.context().value::<crate::Server>();
    let server = server.map(crate::Server::stats).unwrap_or_default();
    page(w, "application/json; charset=utf-8", &vars_json(&server));
}

/// All goroutines; with `?debug=1` one line for each place that they were
/// started at.
fn goroutines(w: &mut ResponseWriter, r: &mut Request) {
    let Some(runtime) = Handle::current() else {
        let why = "there is no runtime: the request is not served on a goroutine";
        return error(w, why, StatusCode::SERVICE_UNAVAILABLE);
    };
    let dump = runtime.dump(MOST_GOROUTINES);
    match r.query() {
        "debug=1" => page(w, PLAIN, &by_site(&dump)),
        _ => page(w, PLAIN, &dump),
    }
}

/// How many goroutines of a dump were started at each place, the most first.
fn by_site(dump: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0;
    for goroutine in dump.split("\n\n").filter(|g| g.starts_with("goroutine ")) {
        let site = goroutine.lines().last().unwrap_or("").trim();
        *counts.entry(site).or_default() += 1;
        total += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|&(site, n)| (std::cmp::Reverse(n), site));
    let mut out = format!("goroutine profile: total {total}\n");
    for (site, n) in rows {
        let _ = writeln!(out, "{n} @ {site}");
    }
    out
}

/// What a file of `/proc` says, read where it keeps nobody waiting.
fn proc_page(w: &mut ResponseWriter, read: impl FnOnce() -> std::io::Result<String>) {
    match blocking(read) {
        Ok(text) => page(w, PLAIN, &text),
        Err(e) => {
            let why = format!("/proc could not be read ({e}): is it mounted?");
            error(w, &why, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

fn threads(w: &mut ResponseWriter, _: &mut Request) {
    proc_page(w, || {
        let mut out = String::new();
        for task in std::fs::read_dir("/proc/self/task")?.take(MOST_THREADS) {
            let path = task?.path();
            // A thread may end between the two reads.
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let wait = std::fs::read_to_string(path.join("wchan")).unwrap_or_default();
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(out, "{id} {} {wait}", name.trim_end());
        }
        Ok(out)
    });
}

fn heap(w: &mut ResponseWriter, _: &mut Request) {
    proc_page(w, || {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let is_memory = |line: &&str| line.starts_with("Vm") || line.starts_with("Rss");
        let lines = status.lines().filter(is_memory);
        Ok(lines.map(|line| format!("{line}\n")).collect())
    });
}

fn cmdline(w: &mut ResponseWriter, _: &mut Request) {
    let args: Vec<_> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    page(w, PLAIN, &args.join("\0"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httptest::TestServer;

    #[test]
    fn near_addresses() {
        let near = [
            "127.0.0.1",
            "10.9.8.7",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.1.1",
            "::1",
        ];
        let more = ["fe80::1", "fd00::1", "::ffff:10.0.0.1"];
        for addr in near.iter().chain(&more) {
            assert!(is_near(addr.parse().unwrap()), "{addr}");
        }
        for addr in [
            "8.8.8.8",
            "172.32.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "0.0.0.0",
        ] {
            assert!(!is_near(addr.parse().unwrap()), "{addr}");
        }
    }

    const PATHS: [&str; 8] = [
        "/debug/",
        "/debug/pprof/",
        "/debug/vars",
        "/debug/pprof/goroutine",
        "/debug/pprof/goroutine?debug=1",
        "/debug/pprof/threads",
        "/debug/pprof/heap",
        "/debug/pprof/cmdline",
    ];

    #[test]
    fn all_pages_show_something_to_the_near_and_nothing_to_others() {
        for (allowed, status) in [(true, 200), (false, 403)] {
            let mut mux = ServeMux::new();
            Pages::new().allow(move |_| allowed).register(&mut mux);
            let server = TestServer::start(mux);
            for path in PATHS {
                let answer = server.get(path).unwrap();
                assert_eq!(answer.status(), status, "{path}");
                assert!(!answer.text().is_empty());
            }
            let text = |path| server.get(path).unwrap().text().into_owned();
            if allowed {
                assert!(text("/debug/pprof/goroutine").contains("goroutine "));
                assert!(text("/debug/pprof/goroutine?debug=1").contains("total "));
                assert!(text("/debug/pprof/heap").contains("VmRSS:"));
                assert!(text("/debug/vars").contains("\"requests\":"));
            } else {
                assert!(text("/debug/vars").contains("are not shown to"));
            }
        }
    }

    #[test]
    fn goroutines_are_counted_by_their_place() {
        let dump = "goroutine 1 [running]:\ncreated by a\n\tx.rs:1\n\n\
                    goroutine 2 [sleep]:\n\ty.rs:2\n\ngoroutine 3 [sleep]:\n\ty.rs:2\n";
        let want = "goroutine profile: total 3\n2 @ y.rs:2\n1 @ x.rs:1\n";
        assert_eq!(by_site(dump), want);
    }
}
