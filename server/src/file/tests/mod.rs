mod oracle;

use std::fs as disk;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::conn::testing::{connect, run, service};
use crate::service::Service;

const DATE: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
const AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

/// When the files of a tree were changed: `DATE`, and half a second.
fn modified() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500)
}

/// A directory with a secret beside it, removed at the end.
struct Tree {
    _top: tempfile::TempDir,
    root: PathBuf,
    service: Arc<Service>,
}

impl Tree {
    fn new() -> Tree {
        Tree::with(|server| server)
    }

    fn with(options: impl Fn(FileServer) -> FileServer) -> Tree {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        disk::create_dir_all(root.join("dir/sub")).unwrap();
        disk::create_dir_all(root.join("site")).unwrap();
        disk::create_dir_all(root.join(".git")).unwrap();
        disk::create_dir_all(root.join(".well-known")).unwrap();
        disk::write(top.path().join("secret"), "secret").unwrap();
        for (name, bytes) in [
            ("a.txt", "0123456789"),
            ("noext", "<html>hi"),
            ("empty", ""),
            ("dir/<b>&.bin", "\0\u{1}"),
            ("dir/a:b", ""),
            ("dir/x", ""),
            ("dir/sub!", ""),
            ("site/index.html", "index"),
            (".git/config", "[core]"),
            (".well-known/x", "known"),
            ("app.js", "plain"),
            ("app.js.gz", "gzipped"),
            ("app.js.br", "brotli"),
            ("page", "<html>"),
            ("page.gz", "gzipped"),
        ] {
            disk::write(root.join(name), bytes).unwrap();
            let file = disk::File::options().write(true).open(root.join(name));
            file.unwrap().set_modified(modified()).unwrap();
        }
        symlink("../secret", root.join("up")).unwrap();
        symlink(top.path().join("secret"), root.join("absolute")).unwrap();
        symlink("a.txt", root.join("within")).unwrap();
        symlink("..", root.join("dir/parent")).unwrap();
        symlink("../..", root.join("dir/out")).unwrap();
        let service = service(options(FileServer::new(&root).unwrap()));
        Tree {
            _top: top,
            root,
            service,
        }
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> String {
        ask(&self.service, method, target, fields)
    }

    fn get(&self, target: &str) -> String {
        self.ask("GET", target, "")
    }

    fn serve(&mut self, handler: impl Handler) {
        self.service = service(handler);
    }
}

fn ask(service: &Arc<Service>, method: &str, target: &str, fields: &str) -> String {
    let (mut connection, conn) = connect(service);
    conn.arrive(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    run(&mut connection);
    String::from_utf8_lossy(&conn.sent()).into_owned()
}

#[track_caller]
fn assert_has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "no {part:?} in {answer}");
    }
}

#[track_caller]
fn assert_lacks(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(!answer.contains(part), "{part:?} in {answer}");
    }
}

#[test]
fn files_come_with_type_length_and_date() {
    let tree = Tree::new();
    let answer = tree.get("/a.txt");
    assert_has(
        &answer,
        &[
            "HTTP/1.1 200 OK\r\n",
            "Content-Length: 10\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Accept-Ranges: bytes\r\n",
            &format!("Last-Modified: {DATE}\r\n"),
            "\r\n\r\n0123456789",
        ],
    );
    assert_lacks(&answer, &["ETag", "Vary", "Cache-Control"]);
    let head = tree.ask("HEAD", "/a.txt", "");
    assert!(head.ends_with("\r\n\r\n"));
    assert_has(&head, &["Content-Length: 10\r\n"]);
    // Go does not look at the method either.
    assert_has(&tree.ask("POST", "/a.txt", ""), &[" 200 ", "0123456789"]);
    assert_has(
        &tree.get("/noext"),
        &["text/html; charset=utf-8", "<html>hi"],
    );
    assert_has(
        &tree.get("/empty"),
        &[" 200 ", "Content-Length: 0\r\n", "text/plain"],
    );
    assert_has(&tree.get("/within"), &["0123456789"]);
    assert_has(&tree.get("/%61.txt"), &["0123456789"]);
    assert_has(
        &tree.get("/nothing"),
        &[" 404 ", "\n\r\n404 page not found\n"],
    );
    assert_has(&tree.get("/a%00"), &[" 404 "]);
    assert_has(&tree.get("/a.txt/x"), &[" 404 "]);
    assert_has(&tree.get("http://a"), &[" 200 ", "href=\"a.txt\""]);
    let long = format!("/{}", "x".repeat(300));
    assert_has(&tree.get(&long), &[" 500 ", "500 Internal Server Error\n"]);
}

#[test]
fn nothing_leaves_the_root() {
    let tree = Tree::new();
    for target in [
        "/up",
        "/absolute",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/%2e%2e%2fsecret",
        "/dir/..%2f..%2fsecret",
        "/dir/out/secret",
        "//secret",
        "/%2fetc%2fpasswd",
        "/dir/parent/../../secret",
        "/..\\secret",
        "/%252e%252e/secret",
        "/dir/out/root/a.txt",
    ] {
        let answer = tree.get(target);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
    }
    assert_has(&tree.get("/dir/parent/a.txt"), &["0123456789"]);
}

#[test]
fn links_are_followed_as_the_option_says() {
    let mut tree = Tree::new();
    let dir = |links| Dir::open(&tree.root).unwrap().links(links);
    let (anywhere, refused) = (dir(Links::Anywhere), dir(Links::Refused));
    tree.serve(FileServer::of(anywhere));
    assert_has(&tree.get("/up"), &[" 200 ", "secret"]);
    assert_has(&tree.get("/absolute"), &[" 200 ", "secret"]);
    assert_has(&tree.get("/../secret"), &[" 404 "]);
    tree.serve(FileServer::of(refused));
    assert_has(&tree.get("/within"), &[" 404 "]);
    assert_has(&tree.get("/dir/parent/a.txt"), &[" 404 "]);
    assert_has(&tree.get("/a.txt"), &[" 200 "]);
}

#[test]
fn what_is_no_file_is_not_there() {
    let tree = Tree::new();
    let mode = rustix::fs::Mode::RWXU;
    let (kind, dev) = (rustix::fs::FileType::Fifo, 0);
    rustix::fs::mknodat(rustix::fs::CWD, tree.root.join("pipe"), kind, mode, dev).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.root.join("socket")).unwrap();
    symlink("loop", tree.root.join("loop")).unwrap();
    for (target, status) in [("/pipe", " 404 "), ("/socket", " 404 "), ("/loop", " 500 ")] {
        assert_has(&tree.get(target), &[status]);
    }
    let mut tree = tree;
    let pipe = tree.root.join("pipe");
    tree.serve(move |w: &mut ResponseWriter, r: &mut Request| serve_file(w, r, &pipe));
    assert_has(&tree.get("/"), &[" 404 "]);
}

#[test]
fn directories_are_listed_or_have_an_index() {
    let tree = Tree::new();
    for (target, location) in [
        ("/dir?q=1", "dir/?q=1"),
        ("/dir/.", "./"),
        ("/a.txt/", "../a.txt"),
        ("/dir/a:b/", "../a:b"),
        ("/site/index.html", "./"),
        ("/nowhere/index.html?a", "./?a"),
    ] {
        let want = format!("\r\nLocation: {location}\r\n");
        assert_has(&tree.get(target), &[" 301 ", &want]);
    }
    assert_has(&tree.get("/x%2f../dir"), &[" 404 "]);
    assert_has(&tree.get("/site/"), &["text/html", "\r\n\r\nindex"]);
    assert_has(
        &tree.get("/dir/"),
        &[
            "<pre>\n<a href=\"%3Cb%3E&amp;.bin\">&lt;b&gt;&amp;.bin</a>\n<a href=\"./a:b\">a:b</a>\n",
            "<a href=\"out\">out</a>\n<a href=\"parent\">parent</a>\n",
            "<a href=\"sub/\">sub/</a>\n<a href=\"sub%21\">sub!</a>\n<a href=\"x\">x</a>\n</pre>\n",
        ],
    );
    assert_has(&tree.get("/"), &["<a href=\".git/\">.git/</a>\n"]);
    let since = "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\n";
    assert_has(&tree.ask("GET", "/dir/", since), &[" 304 "]);
    assert_has(&tree.ask("POST", "/dir/", since), &[" 200 "]);
    let closed = Tree::with(|server| server.directory_lists(false));
    assert_has(&closed.get("/dir/"), &[" 403 ", "403 Forbidden\n"]);
    assert_has(&closed.get("/site/"), &[" 200 "]);
}

/// What a file with this tag and `DATE` answers to conditions.
#[test]
fn conditions_are_looked_at_in_the_order_of_rfc_9110() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        match r.query() {
            "weak" => w.header("ETag", "W/\"v1\""),
            _ => w.header("ETag", "\"v1\""),
        };
        w.header("Content-Encoding", "identity");
        serve_content(w, r, "a.txt", Some(modified()), Cursor::new("0123456789"));
    };
    let service = service(handler);
    let table = [
        ("", "", 200),
        // §13.1.1
        ("", "If-Match: \"v1\"", 200),
        ("", "If-Match: \"v0\" , \"v1\"", 200),
        ("", "If-Match: *", 200),
        ("", "If-Match: \"v0\"", 412),
        ("", "If-Match: W/\"v1\"", 412),
        ("?weak", "If-Match: W/\"v1\"", 412),
        ("", "If-Match: nonsense, \"v1\"", 412),
        ("", "If-Match:", 200),
        // §13.1.4, which If-Match hides
        ("", "If-Unmodified-Since: =", 200),
        ("", "If-Unmodified-Since: >", 200),
        ("", "If-Unmodified-Since: <", 412),
        ("", "If-Unmodified-Since: nonsense", 200),
        ("", "If-Match: \"v1\"\r\nIf-Unmodified-Since: <", 200),
        ("", "If-Match: \"v0\"\r\nIf-Unmodified-Since: >", 412),
        // §13.1.2
        ("", "If-None-Match: \"v1\"", 304),
        ("", "If-None-Match: W/\"v1\"", 304),
        ("?weak", "If-None-Match: \"v1\"", 304),
        ("", "If-None-Match: \"v0\",\"v1\"", 304),
        ("", "If-None-Match: *", 304),
        ("", "If-None-Match: \"v0\"", 200),
        ("", "If-None-Match: \"v0\" x \"v1\"", 200),
        // §13.1.3, which If-None-Match hides
        ("", "If-Modified-Since: =", 304),
        ("", "If-Modified-Since: >", 304),
        ("", "If-Modified-Since: <", 200),
        ("", "If-Modified-Since: nonsense", 200),
        ("", "If-None-Match: \"v0\"\r\nIf-Modified-Since: =", 200),
        ("", "If-Match: \"v1\"\r\nIf-None-Match: \"v1\"", 304),
        ("", "If-Match: \"v0\"\r\nIf-None-Match: \"v1\"", 412),
        // §13.1.5
        ("", "Range: bytes=1-2", 206),
        ("", "Range: bytes=1-2\r\nIf-Range: \"v1\"", 206),
        ("", "Range: bytes=1-2\r\nIf-Range: \"v0\"", 200),
        ("", "Range: bytes=1-2\r\nIf-Range: W/\"v1\"", 200),
        ("?weak", "Range: bytes=1-2\r\nIf-Range: W/\"v1\"", 200),
        ("", "Range: bytes=1-2\r\nIf-Range: =", 206),
        ("", "Range: bytes=1-2\r\nIf-Range: <", 200),
        ("", "Range: bytes=1-2\r\nIf-Range: >", 200),
        ("", "Range: bytes=1-2\r\nIf-Range: nonsense", 200),
        ("", "Range: bytes=1-2\r\nIf-None-Match: \"v1\"", 304),
        ("", "Range: bytes=99-\r\nIf-None-Match: \"v1\"", 304),
        ("", "Range: bytes=99-\r\nIf-Range: \"v0\"", 200),
        ("", "Range: bytes=99-", 416),
    ];
    for (query, fields, status) in table {
        let mut text = String::new();
        for line in fields.split("\r\n").filter(|line| !line.is_empty()) {
            let line = line.replace("Since: =", &format!("Since: {DATE}"));
            let line = line.replace("Since: <", &format!("Since: {BEFORE}"));
            let line = line.replace("Since: >", &format!("Since: {AFTER}"));
            let line = line.replace("If-Range: =", &format!("If-Range: {DATE}"));
            let line = line.replace("If-Range: <", &format!("If-Range: {BEFORE}"));
            let line = line.replace("If-Range: >", &format!("If-Range: {AFTER}"));
            text.push_str(&line);
            text.push_str("\r\n");
        }
        let answer = ask(&service, "GET", &format!("/{query}"), &text);
        let want = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&want), "{query} {fields}: {answer}");
        if status == 304 {
            assert_has(&answer, &["ETag: "]);
            assert_lacks(&answer, &["Content-", "Last-Modified"]);
            assert!(answer.ends_with("\r\n\r\n"));
        }
        if status == 416 {
            assert_lacks(&answer, &["ETag", "Last-Modified", "Content-Encoding"]);
        }
    }
    for (fields, status) in [
        ("If-None-Match: \"v1\"\r\n", " 412 "),
        ("If-None-Match: \"v0\"\r\n", " 200 "),
        ("Range: bytes=1-2\r\n", " 200 "),
    ] {
        assert_has(&ask(&service, "PUT", "/", fields), &[status]);
    }
}

#[test]
fn a_file_without_a_tag_goes_by_its_date() {
    let tree = Tree::new();
    let since = |date: &str| tree.ask("GET", "/a.txt", &format!("If-Modified-Since: {date}\r\n"));
    let answer = since(DATE);
    assert_has(&answer, &["HTTP/1.1 304 Not Modified\r\n", "Last-Modified"]);
    assert_lacks(&answer, &["Content-"]);
    assert_has(&since(BEFORE), &[" 200 "]);
    assert_has(
        &tree.ask("GET", "/a.txt", "If-None-Match: *\r\n"),
        &[" 304 "],
    );
    // Of other forms of dates (RFC 9110 §5.6.7).
    assert_has(&since("Sunday, 09-Sep-01 01:46:40 GMT"), &[" 304 "]);
    assert_has(&since("Sun Sep  9 01:46:40 2001"), &[" 304 "]);
}

#[test]
fn a_date_that_http_cannot_tell_is_left_out() {
    let far = Duration::from_secs(253_402_300_800);
    for time in [
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        SystemTime::UNIX_EPOCH + far,
    ] {
        let service = service(move |w: &mut ResponseWriter, r: &mut Request| {
            serve_bytes(w, r, "a", Some(time), b"x");
        });
        assert_lacks(&ask(&service, "GET", "/", ""), &["Last-Modified"]);
    }
}

#[test]
fn ranges_are_parts() {
    let tree = Tree::new();
    let ask = |range: &str| tree.ask("GET", "/a.txt", &format!("Range: {range}\r\n"));
    for (range, part, body) in [
        ("bytes=2-4", "2-4/10", "234"),
        ("bytes=0-", "0-9/10", "0123456789"),
        ("bytes=-1", "9-9/10", "9"),
        ("bytes=3-3,99-", "3-3/10", "3"),
    ] {
        let length = format!("Content-Length: {}\r\n", body.len());
        let part = format!("Content-Range: bytes {part}\r\n");
        let body = format!("\r\n\r\n{body}");
        let answer = ask(range);
        assert_has(&answer, &["206 Partial Content\r\n", &length, &part]);
        assert!(answer.ends_with(&body), "{answer}");
    }
    assert_has(
        &ask("bytes=10-"),
        &[
            " 416 ",
            "Content-Range: bytes */10\r\n",
            "\r\n\r\ninvalid range: failed to overlap\n",
        ],
    );
    let malformed = ask("bytes=x");
    assert_has(&malformed, &[" 416 ", "\r\n\r\ninvalid range\n"]);
    assert_lacks(&malformed, &["Content-Range", "Last-Modified"]);
    // More in all than there is.
    assert_has(&ask("bytes=0-,0-"), &[" 200 ", "\r\n\r\n0123456789"]);
    let empty = tree.ask("GET", "/empty", "Range: bytes=0-5\r\n");
    assert_has(&empty, &[" 200 ", "Content-Length: 0\r\n"]);
    let head = tree.ask("HEAD", "/a.txt", "Range: bytes=2-4\r\n");
    assert_has(&head, &[" 206 ", "Content-Length: 3\r\n"]);
    assert!(head.ends_with("\r\n\r\n"));
}

#[test]
fn several_ranges_are_several_parts() {
    let tree = Tree::new();
    let answer = tree.ask("GET", "/a.txt", "Range: bytes=0-1, 5-5,-1\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {head}"))
    };
    assert_has(head, &["206 Partial Content", "Accept-Ranges: bytes"]);
    assert_lacks(head, &["Content-Range"]);
    let boundary = field("Content-Type: multipart/byteranges; boundary=");
    let length: usize = field("Content-Length: ").parse().unwrap();
    assert_eq!(body.len(), length);
    let part = |range: &str, data: &str| {
        let kind = "Content-Type: text/plain; charset=utf-8";
        format!("--{boundary}\r\nContent-Range: bytes {range}/10\r\n{kind}\r\n\r\n{data}\r\n")
    };
    let parts = [part("0-1", "01"), part("5-5", "5"), part("9-9", "9")].concat();
    assert_eq!(body, format!("{parts}--{boundary}--\r\n"));
    let head = tree.ask("HEAD", "/a.txt", "Range: bytes=0-1, 5-5,-1\r\n");
    assert_has(&head, &[&format!("Content-Length: {length}\r\n")]);
}

#[test]
fn tags_are_made_where_they_are_asked_for() {
    let tree = Tree::with(|server| server.etags(true).cache_control("max-age=60"));
    let tag = format!("\"{:x}-a\"", 1_000_000_000_500_000_000_u64);
    let answer = tree.get("/a.txt");
    assert_has(
        &answer,
        &[&format!("ETag: {tag}\r\n"), "Cache-Control: max-age=60\r\n"],
    );
    let same = tree.ask("GET", "/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_has(&same, &[" 304 ", &tag, "Cache-Control"]);
    assert_lacks(&same, &["Last-Modified"]);
    let bad = tree.ask("GET", "/a.txt", "Range: bytes=99-\r\n");
    assert_has(&bad, &[" 416 "]);
    assert_lacks(&bad, &["ETag", "Cache-Control"]);
    assert_lacks(&tree.get("/none"), &["Cache-Control"]);
    assert_lacks(&tree.get("/dir/"), &["Cache-Control", "ETag"]);
}

#[test]
fn compressed_siblings_are_sent_to_those_who_take_them() {
    let tree = Tree::with(|server| server.precompressed(true).etags(true));
    let ask = |target: &str, codings: &str| {
        tree.ask("GET", target, &format!("Accept-Encoding: {codings}\r\n"))
    };
    for (codings, coding, body) in [
        ("gzip, br", "br", "brotli"),
        ("gzip", "gzip", "gzipped"),
        ("zstd, gzip;q=0.1", "gzip", "gzipped"),
    ] {
        let answer = ask("/app.js", codings);
        let coding = format!("Content-Encoding: {coding}\r\n");
        let kind = "Content-Type: text/javascript; charset=utf-8\r\n";
        let vary = "Vary: Accept-Encoding\r\n";
        let length = format!("Content-Length: {}\r\n", body.len());
        assert_has(&answer, &[" 200 ", &coding, kind, vary, &length]);
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
    let plain = ask("/app.js", "gzip;q=0");
    assert_has(&plain, &["Vary: Accept-Encoding\r\n", "\r\n\r\nplain"]);
    assert_lacks(&plain, &["Content-Encoding"]);
    assert_has(&ask("/page", "gzip"), &["text/html", "-gzip\"\r\n"]);
    assert_lacks(&ask("/a.txt", "gzip, br"), &["Content-Encoding"]);
    assert_has(
        &tree.ask(
            "GET",
            "/app.js",
            "Accept-Encoding: br\r\nRange: bytes=1-2\r\n",
        ),
        &[" 206 ", "Content-Range: bytes 1-2/6\r\n", "\r\n\r\nro"],
    );
    assert_lacks(&Tree::new().get("/app.js"), &["Vary"]);
}

#[test]
fn names_with_a_dot_are_hidden_where_it_is_asked_for() {
    let tree = Tree::with(|server| server.dotfiles(Dotfiles::Hidden));
    for target in ["/.git/config", "/.git/", "/.git", "/%2egit/config"] {
        assert_has(&tree.get(target), &[" 404 "]);
    }
    assert_has(&tree.get("/.well-known/x"), &[" 200 ", "known"]);
    let list = tree.get("/");
    assert_lacks(&list, &[".git"]);
    assert_has(&list, &["href=\".well-known/\"", "a.txt"]);
    assert_has(&Tree::new().get("/.git/config"), &[" 200 "]);
}

#[test]
fn one_file_is_served_for_any_path() {
    let mut tree = Tree::new();
    let root = tree.root.clone();
    tree.serve(
        move |w: &mut ResponseWriter, r: &mut Request| match r.query() {
            "dir" => serve_file(w, r, root.join("dir")),
            "site" => serve_file(w, r, root.join("site/")),
            "none" => serve_file(w, r, root.join("none")),
            "up" => serve_file(w, r, root.join("dir/../a.txt")),
            "index" => serve_file(w, r, root.join("site/index.html")),
            _ => serve_file(w, r, root.join("a.txt")),
        },
    );
    assert_has(&tree.get("/any/"), &[" 200 ", "text/plain", "0123456789"]);
    assert_has(&tree.get("/?up"), &[" 200 ", "0123456789"]);
    assert_has(&tree.get("/?index"), &[" 200 ", "index"]);
    assert_has(&tree.get("/?dir"), &[" 200 ", "href=\"x\""]);
    assert_has(&tree.get("/d?dir"), &[" 301 ", "Location: d/?dir\r\n"]);
    assert_has(&tree.get("/?site"), &[" 200 ", "\r\n\r\nindex"]);
    assert_has(&tree.get("/?none"), &[" 404 "]);
    for target in ["/../x", "/x/..", "/x\\..\\y", "/%2e%2e/x"] {
        let answer = tree.get(target);
        assert_has(&answer, &[" 400 ", "\r\n\r\ninvalid URL path\n"]);
    }
    assert_has(&tree.get("/x..y"), &[" 200 "]);
    assert_has(&tree.get("/a/index.html"), &[" 301 ", "Location: ./\r\n"]);
}

#[test]
fn files_in_memory_are_files() {
    let files = MemoryFs::new()
        .file("/index.html", "<p>index")
        .file("/css/site.css", &b"body {}"[..])
        .file("/css/deep/x.txt", "x".to_owned())
        .modified(modified());
    let service = service(FileServer::of(files));
    let get = |target: &str, fields: &str| ask(&service, "GET", target, fields);
    assert_has(&get("/", ""), &["text/html", "\r\n\r\n<p>index"]);
    assert_has(&get("/css", ""), &[" 301 ", "Location: css/\r\n"]);
    assert_has(
        &get("/css/", ""),
        &["<pre>\n<a href=\"deep/\">deep/</a>\n<a href=\"site.css\">site.css</a>\n</pre>"],
    );
    let css = get("/css/site.css", "");
    assert_has(&css, &["text/css", DATE, "\r\n\r\nbody {}"]);
    let tag = css.lines().find_map(|line| line.strip_prefix("ETag: "));
    let fields = format!("If-None-Match: {}\r\n", tag.unwrap());
    assert_has(&get("/css/site.css", &fields), &[" 304 "]);
    let range = get("/css/site.css", "Range: bytes=5-\r\n");
    assert_has(&range, &[" 206 ", "\r\n\r\n{}"]);
    for target in ["/cs", "/css/site", "/css/site.css/x"] {
        assert_has(&get(target, ""), &[" 404 "]);
    }
}

#[test]
#[should_panic(expected = "is not the path of a file")]
fn a_file_in_memory_has_a_clean_path() {
    let _ = MemoryFs::new().file("a/../b", "");
}

#[test]
fn large_files_come_whole_and_in_parts() {
    let tree = Tree::new();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    disk::write(tree.root.join("large.bin"), &bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let whole = tree.get("/large.bin");
    assert_has(&whole, &["Content-Length: 700000\r\n"]);
    assert!(whole.ends_with(&format!("\r\n\r\n{text}")));
    let part = tree.ask("GET", "/large.bin", "Range: bytes=131000-400000\r\n");
    assert!(part.ends_with(&format!("\r\n\r\n{}", &text[131_000..=400_000])));
}

/// Content that fails where it is told to.
struct Faulty {
    seeks: bool,
    at: u64,
}

impl io::Read for Faulty {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.at {
            0 => {
                buf[..5].copy_from_slice(b"01234");
                Ok(5)
            }
            _ => Err(io::Error::other("the disk is gone")),
        }
    }
}

impl io::Seek for Faulty {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match to {
            io::SeekFrom::Start(at) => self.at = at,
            _ if self.seeks => self.at = 10,
            _ => return Err(io::Error::other("a secret of the system")),
        }
        Ok(self.at)
    }
}

#[test]
fn content_that_fails_is_an_error_or_an_end() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        w.header("Cache-Control", "max-age=9");
        let (seeks, at) = (r.query().is_empty(), 0);
        serve_content(w, r, "a.txt", None, Faulty { seeks, at });
    };
    let service = service(handler);
    let answer = ask(&service, "GET", "/?no", "");
    assert_has(&answer, &[" 500 ", "\r\n\r\nseeker can't seek\n"]);
    assert_lacks(&answer, &["Cache-Control", "secret"]);
    let (mut connection, conn) = connect(&service);
    conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut connection), crate::conn::Outcome::Done);
    let answer = String::from_utf8(conn.sent()).unwrap();
    assert_has(&answer, &["Content-Length: 10\r\n", "\r\n\r\n01234"]);
}
