use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::conn::testing::{connect, run, service};
use crate::service::Service;

/// A directory with a secret beside it, removed at the end.
struct Tree {
    top: PathBuf,
    service: Arc<Service>,
}

impl Tree {
    fn new(name: &str) -> Tree {
        let top = std::env::temp_dir().join(format!("wirepath-{}-{name}", std::process::id()));
        let root = top.join("root");
        fs::create_dir_all(root.join("dir/sub")).unwrap();
        fs::create_dir_all(root.join("site")).unwrap();
        fs::write(top.join("secret"), "secret").unwrap();
        fs::write(root.join("a.txt"), "0123456789").unwrap();
        fs::write(root.join("noext"), "<html>hi").unwrap();
        fs::write(root.join("dir/<b>&.bin"), [0, 1]).unwrap();
        fs::write(root.join("dir/a:b"), "").unwrap();
        fs::write(root.join("site/index.html"), "index").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(top.join("secret"), root.join("absolute")).unwrap();
        symlink("a.txt", root.join("within")).unwrap();
        symlink("..", root.join("dir/parent")).unwrap();
        symlink("../..", root.join("dir/out")).unwrap();
        let service = service(FileServer::new(&root).unwrap());
        Tree { top, service }
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> String {
        let (mut connection, conn) = connect(&self.service);
        conn.arrive(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        run(&mut connection);
        String::from_utf8_lossy(&conn.sent()).into_owned()
    }

    fn get(&self, target: &str) -> String {
        self.ask("GET", target, "")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

#[track_caller]
fn assert_has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "no {part:?} in {answer}");
    }
}

#[test]
fn files_come_with_type_length_and_date() {
    let tree = Tree::new("files");
    let answer = tree.get("/a.txt");
    assert_has(
        &answer,
        &[
            "HTTP/1.1 200 OK\r\n",
            "Content-Length: 10\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Accept-Ranges: bytes\r\n",
            "Last-Modified: ",
            "\r\n\r\n0123456789",
        ],
    );
    assert!(tree.ask("HEAD", "/a.txt", "").ends_with("\r\n\r\n"));
    assert_has(
        &tree.ask("POST", "/a.txt", ""),
        &[" 405 ", "Allow: GET, HEAD"],
    );
    assert_has(
        &tree.get("/noext"),
        &["text/html; charset=utf-8", "<html>hi"],
    );
    assert_has(&tree.get("/within"), &["0123456789"]);
    assert_has(&tree.get("/%61.txt"), &["0123456789"]);
    assert_has(&tree.get("/nothing"), &[" 404 "]);
    assert_has(&tree.get("/a%00"), &[" 404 "]);
    assert_has(&tree.get("/a.txt/x"), &[" 404 "]);
}

#[test]
fn nothing_leaves_the_root() {
    let tree = Tree::new("root");
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
    ] {
        let answer = tree.get(target);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
    }
    assert_has(&tree.get("/dir/parent/a.txt"), &["0123456789"]);
}

#[test]
fn directories_are_listed_or_have_an_index() {
    let tree = Tree::new("dirs");
    assert_has(&tree.get("/dir?q=1"), &[" 301 ", "Location: dir/?q=1\r\n"]);
    assert_has(&tree.get("/a.txt/"), &[" 301 ", "Location: ../a.txt\r\n"]);
    assert_has(&tree.get("/site/"), &["text/html", "\r\n\r\nindex"]);
    assert_has(
        &tree.get("/site/index.html"),
        &[" 301 ", "Location: ./\r\n"],
    );
    assert_has(
        &tree.get("/dir/"),
        &[
            "<a href=\"%3Cb%3E&amp;.bin\">&lt;b&gt;&amp;.bin</a>\n<a href=\"./a:b\">a:b</a>\n",
            "<a href=\"sub/\">sub/</a>\n</pre>\n",
        ],
    );
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let tree = Tree::new("cond");
    let file = fs::File::options()
        .write(true)
        .open(tree.top.join("root/a.txt"))
        .unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
    file.set_modified(modified).unwrap();
    let date = "Sun, 09 Sep 2001 01:46:40 GMT";
    assert_has(
        &tree.get("/a.txt"),
        &[&format!("Last-Modified: {date}\r\n")],
    );
    let since = |date: &str| tree.ask("GET", "/a.txt", &format!("If-Modified-Since: {date}\r\n"));
    let answer = since(date);
    assert_has(&answer, &["HTTP/1.1 304 Not Modified\r\n"]);
    assert!(!answer.contains("Content-") && answer.ends_with("\r\n\r\n"));
    assert_has(&since("Sun, 09 Sep 2001 01:46:39 GMT"), &[" 200 "]);
    assert_has(&since("nonsense"), &[" 200 "]);
    for (validator, status) in [(date, " 206 "), ("\"tag\"", " 200 ")] {
        let fields = format!("Range: bytes=1-2\r\nIf-Range: {validator}\r\n");
        assert_has(&tree.ask("GET", "/a.txt", &fields), &[status]);
    }
}

#[test]
fn a_range_is_a_part() {
    let tree = Tree::new("range");
    assert_has(
        &tree.ask("GET", "/a.txt", "Range: bytes=2-4\r\n"),
        &[
            " 206 ",
            "Content-Range: bytes 2-4/10\r\n",
            "Content-Length: 3\r\n",
            "\r\n\r\n234",
        ],
    );
    assert_has(
        &tree.ask("GET", "/a.txt", "Range: bytes=0-\r\n"),
        &[" 206 ", "Content-Range: bytes 0-9/10\r\n"],
    );
    assert_has(
        &tree.ask("GET", "/a.txt", "Range: bytes=10-\r\n"),
        &[" 416 ", "Content-Range: bytes */10\r\n"],
    );
}
