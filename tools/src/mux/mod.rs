//! `wirepath mux`: which pattern answers a request, and why.
//!
//! The patterns are registered with a real `ServeMux`, one by one; what it
//! refuses is shown and left out. Exit code 2 where one was refused.

mod report;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wirepath::{Request, ServeMux, httptest, not_found};

use crate::failure::Failure;
use report::{Fault, Outcome, Report};

/// The most that is read of a list of patterns, in bytes.
const MAX_LIST_BYTES: u64 = 4 << 20;
/// The host of a request that names none.
const DEFAULT_HOST: &str = "localhost";

/// What is asked.
#[derive(clap::Args)]
pub struct Options {
    /// Patterns: `[METHOD ][HOST]/[PATH]`.
    patterns: Vec<String>,
    /// Patterns from a file, one a line (`-`: stdin); empty lines and those
    /// that begin with `#` are passed over.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The request: `GET http://host/path`, `GET /path` or only a path.
    #[arg(long)]
    request: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Registers the patterns, routes the request, and tells.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut patterns = options.patterns.clone();
    if let Some(file) = &options.file {
        patterns.extend(listed(&read(file)?).map(str::to_owned));
    }
    if patterns.is_empty() {
        return Err(Failure::refused(
            "no patterns; give some as arguments or with --file",
        ));
    }
    let request = options.request.as_deref().map(request).transpose()?;
    let report = judge(&patterns, request.as_ref());
    match options.json {
        true => say!("{}", report.to_json()),
        false => say!("{}", report.to_string().trim_end()),
    }
    match report.faults.len() {
        0 => Ok(()),
        n => Err(Failure::refused(format!(
            "{n} of {} patterns cannot be registered; see above",
            patterns.len()
        ))),
    }
}

fn judge(patterns: &[String], request: Option<&Request>) -> Report {
    let mut mux = ServeMux::new();
    let mut faults = Vec::new();
    for pattern in patterns {
        if let Err(e) = mux.try_handle(pattern, not_found) {
            faults.push(Fault::new(e));
        }
    }
    Report {
        registered: patterns.len() - faults.len(),
        faults,
        outcome: request.map(|r| Outcome::new(r, mux.explain(r))),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| {
        let name = file.display();
        Failure::refused(format!("cannot read the patterns of {name}: {e}"))
    };
    let source: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(failed)?),
    };
    let mut text = String::new();
    let mut bounded = source.take(MAX_LIST_BYTES + 1);
    let bytes = bounded.read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > MAX_LIST_BYTES {
        let limit = format!("it has more than {MAX_LIST_BYTES} bytes");
        return Err(failed(io::Error::other(limit)));
    }
    Ok(text)
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The request that a person wrote.
fn request(text: &str) -> Result<Request, Failure> {
    let (method, target) = match text.trim().split_once(char::is_whitespace) {
        Some((method, target)) => (method, target.trim_start()),
        None => ("GET", text.trim()),
    };
    let refused = |why: &str| Failure::refused(format!("the request {text:?}: {why}"));
    if text.contains(['\r', '\n']) {
        return Err(refused("it has more than one line"));
    }
    let (host, target) = split_target(method, target);
    httptest::request(method, target)
        .header("Host", host)
        .try_build()
        .map_err(|e| refused(&e.to_string()))
}

/// The host and the target as it is sent to a server.
fn split_target<'t>(method: &str, target: &'t str) -> (&'t str, &'t str) {
    if method == "CONNECT" {
        return (target, target);
    }
    let after = target.strip_prefix("http://");
    let Some(rest) = after.or_else(|| target.strip_prefix("https://")) else {
        return (DEFAULT_HOST, target);
    };
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest.split_at(at),
        Some(at) => (&rest[..at], target),
        None => (rest, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(patterns: &[&str], asked: &str) -> String {
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        judge(&patterns, Some(&request(asked).unwrap())).to_string()
    }

    #[test]
    fn the_winner_and_the_others() {
        let patterns = ["/", "GET /users/{id}", "/users/", "example.com/", "/other"];
        let said = tell(&patterns, "GET http://localhost/users/7");
        assert!(said.contains("GET /users/{id} answers"), "{said}");
        let more = "/users/ matches too: it matches more paths than GET /users/{id}";
        assert!(said.contains(more), "{said}");
        assert!(!said.contains("example.com/ matches"), "{said}");
        assert!(!said.contains("/other"), "{said}");
        let said = tell(&patterns, "http://example.com:80/users/7");
        assert!(said.contains("example.com/ answers"), "{said}");
        let less = "GET /users/{id} matches too: it names no host";
        assert!(said.contains(less), "{said}");
    }

    #[test]
    fn what_the_mux_itself_answers() {
        let patterns = ["GET /tree/", "POST /form"];
        for (asked, want) in [
            ("GET /tree?q=1", "307 Temporary Redirect to /tree/?q=1"),
            ("GET /a/../tree/", "307 Temporary Redirect to /tree/"),
            ("GET /form", "405 Method Not Allowed, Allow: POST"),
            ("/nothing", "404 Not Found"),
            ("OPTIONS *", "400 Bad Request"),
        ] {
            let said = tell(&patterns, asked);
            assert!(said.contains(want), "{asked}: {said}");
        }
    }

    #[test]
    fn faults_have_a_caret_or_an_example() {
        let said = tell(&["/é/{a}x", "/{x}/b", "/a/{y}"], "/a/b");
        assert!(said.contains("\n  /é/{a}x\n     ^ "), "{said}");
        assert!(said.contains("both match: GET /a/b"), "{said}");
        assert!(said.contains("/{x}/b answers"), "{said}");
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        for text in ["", "GET", "GET /a b", "G=T /", "GET /\r\nX: y"] {
            assert_eq!(request(text).err().map(|e| e.code()), Some(2), "{text}");
        }
    }

    #[test]
    fn lists_have_comments() {
        let lines: Vec<_> = listed("# all\n/a\n\n  GET /b \n").collect();
        assert_eq!(lines, ["/a", "GET /b"]);
    }
}
