//! What Go's handlers answered, recorded by `tests/oracle/files`, and what
//! ours answer to the same requests for the same files.

use std::collections::BTreeMap;

use super::*;
use crate::conn::testing::{connect, run, service};

const VECTORS: &str = include_str!("../../../../tests/oracle/files/vectors.json");

#[derive(serde::Deserialize)]
struct Vectors {
    tree: Vec<Entry>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Entry {
    path: String,
    #[serde(default)]
    bytes: Vec<u8>,
    link: Option<String>,
}

#[derive(serde::Deserialize)]
struct Case {
    handler: String,
    method: String,
    target: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct Answer {
    status: u16,
    header: BTreeMap<String, String>,
    /// Bytes as code points.
    body: String,
}

/// The fields that are compared.
const COMPARED: [&str; 10] = [
    "Accept-Ranges",
    "Cache-Control",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Etag",
    "Last-Modified",
    "Location",
    "X-Content-Type-Options",
];

fn build(root: &Path, tree: &[Entry]) {
    for entry in tree {
        let path = root.join(&entry.path);
        match &entry.link {
            Some(link) => symlink(link, path).unwrap(),
            None if entry.path.ends_with('/') => disk::create_dir_all(path).unwrap(),
            None => disk::write(path, &entry.bytes).unwrap(),
        }
    }
    let regular = tree.iter().filter(|entry| entry.link.is_none());
    let paths = regular.map(|entry| root.join(&entry.path));
    for path in paths.chain([root.to_owned()]) {
        let file = disk::File::open(path).unwrap();
        file.set_modified(modified()).unwrap();
    }
}

/// As the recorder has them: chosen by the field `X-Handler`.
fn handlers(root: PathBuf) -> impl Handler {
    let files = FileServer::new(&root).unwrap();
    let content = |w: &mut ResponseWriter, r: &mut Request, name: &str, value: &str| {
        w.header("Cache-Control", "max-age=9");
        w.header(name, value);
        let content = Cursor::new("0123456789");
        serve_content(w, r, "a.txt", Some(modified()), content);
    };
    move |w: &mut ResponseWriter, r: &mut Request| {
        let handler = r.header("X-Handler").unwrap().into_owned();
        match &*handler {
            "files" => files.serve(w, r),
            "strong" => content(w, r, "ETag", "\"v1\""),
            "weak" => content(w, r, "ETag", "W/\"v1\""),
            "tagless" => content(w, r, "Content-Type", "text/x-given"),
            "file" => serve_file(w, r, root.join("a.txt")),
            name => serve_file(w, r, root.join(name)),
        }
    }
}

fn points(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn parse(answer: &[u8]) -> Answer {
    let answer = points(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap()["HTTP/1.1 ".len()..][..3].parse();
    let fields = lines.map(|line| line.split_once(": ").unwrap_or((line, "")));
    let known = fields.filter_map(|(name, value)| {
        let is_it = |known: &&str| known.eq_ignore_ascii_case(name);
        let name = COMPARED.into_iter().find(is_it)?;
        Some((name.to_owned(), value.to_owned()))
    });
    let mut header: BTreeMap<_, _> = known.collect();
    let kind = header.get("Content-Type").cloned().unwrap_or_default();
    let mut body = body.to_owned();
    if let Some((lead, boundary)) = kind.split_once("boundary=") {
        body = body.replace(boundary, "BOUNDARY");
        header.insert(
            "Content-Type".to_owned(),
            format!("{lead}boundary=BOUNDARY"),
        );
    }
    Answer {
        status: status.unwrap(),
        header,
        body,
    }
}

/// Go's answer with what we do otherwise on purpose.
fn corrected(mut answer: Answer) -> Answer {
    // A name is percent-encoded in a redirect, as in a link (RFC 3986).
    if let Some(location) = answer.header.get_mut("Location") {
        let encoded = match location.as_str() {
            "a b/" => "a%20b/",
            "a:b/" => "./a:b/",
            "\u{c3}\u{a9}/" => "%C3%A9/",
            "<i>&'\"/" => "%3Ci%3E&%27%22/",
            "q?h#/" => "q%3Fh%23/",
            "../q?h#" => "../q%3Fh%23",
            "a%2fb/" => "a%252fb/",
            "../a%2fb" => "../a%252fb",
            "empty dir/" => "empty%20dir/",
            "per%cent/" => "per%25cent/",
            other => other,
        };
        *location = encoded.to_owned();
    }
    // A link is escaped for HTML as well.
    let is_list_of_dir = answer.header.get("Content-Length") == Some(&"423".to_owned());
    if is_list_of_dir {
        let length = (423 + "amp;".len()).to_string();
        answer.header.insert("Content-Length".to_owned(), length);
        answer.body = answer
            .body
            .replace("href=\"%3Ci%3E&", "href=\"%3Ci%3E&amp;");
    }
    // No range has a last byte before its first (RFC 9110 §14.4).
    if answer.header.get("Content-Range") == Some(&"bytes 0--1/0".to_owned()) {
        answer.header.remove("Content-Range");
        answer.status = 200;
    }
    answer
}

#[test]
fn answers_are_gos() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    let top = tempfile::tempdir().unwrap();
    let root = top.path().join("root");
    disk::create_dir(&root).unwrap();
    build(&root, &vectors.tree);
    let service = service(handlers(root));
    let mut wrong = Vec::new();
    let all = vectors.cases.len();
    for case in vectors.cases {
        let mut request = format!("{} {} HTTP/1.1\r\nHost: a\r\n", case.method, case.target);
        request.push_str(&format!("X-Handler: {}\r\n", case.handler));
        for field in &case.fields {
            request.push_str(&format!("{field}\r\n"));
        }
        let (mut connection, conn) = connect(&service);
        conn.arrive(format!("{request}\r\n").as_bytes());
        run(&mut connection);
        let (ours, want) = (parse(&conn.sent()), corrected(case.answer));
        if ours != want {
            wrong.push(format!("{request}Go {want:?}\nwe {ours:?}"));
        }
    }
    let (count, text) = (wrong.len(), wrong.join("\n\n"));
    assert!(count == 0 && all > 1000, "{count} of {all}:\n{text}");
}
