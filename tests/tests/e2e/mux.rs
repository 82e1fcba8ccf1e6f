//! `wirepath mux`: which pattern answers, as a person asks.

use std::process::Command;

use wirepath_tests::bin;
use wirepath_tests::process::{self, Finished};

fn mux(args: &[&str]) -> Finished {
    process::run(Command::new(bin::wirepath()).arg("mux").args(args))
}

#[test]
fn a_request_finds_its_pattern() {
    let patterns = ["/", "GET /users/{id}", "/users/"];
    let asked = ["--request", "GET http://example.com/users/7"];
    let said = mux(&[&patterns[..], &asked].concat()).ok().text();
    assert!(said.contains("GET /users/{id} answers"), "{said}");
    assert!(said.contains("/users/ matches too: "), "{said}");
    let json = mux(&[&patterns[..], &asked, &["--json"]].concat())
        .ok()
        .text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"]["pattern"], "GET /users/{id}");
    assert_eq!(json["outcome"]["matching"].as_array().unwrap().len(), 3);
}

#[test]
fn a_list_with_faults_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("patterns");
    std::fs::write(&list, "# two that conflict\n/{x}/b\n/a/{y}\n\n/a{b}\n").unwrap();
    let finished = mux(&["--file", list.to_str().unwrap()]);
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    let said = String::from_utf8_lossy(&finished.stdout);
    assert!(said.contains("both match: GET /a/b"), "{finished}");
    assert!(said.contains("\n  /a{b}\n   ^ "), "{finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(finished.stderr.contains("2 of 3"), "{finished}");
}
