//! The mux against what Go's did, recorded by `tests/vectors/generate.go`.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::*;
use crate::conn::testing::{connect, run, service};

/// Cases that differ on purpose, by the request's target.
const DIFFERENT: &[(&str, &str)] = &[];

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../../tests/vectors/mux.json")).unwrap()
}

/// The error without the places of registration.
fn without_sites(error: &RegisterError) -> String {
    let text = error.to_string();
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(" (registered at ") {
        out.push_str(before);
        rest = after.split_once(')').unwrap().1;
    }
    out + rest
}

#[test]
fn patterns_are_taken_and_refused_as_in_go() {
    let mut checked = 0;
    for set in vectors() {
        let mut mux = ServeMux::new();
        for registration in set["patterns"].as_array().unwrap() {
            let pattern = registration["pattern"].as_str().unwrap();
            let got = mux.try_handle(pattern, response::not_found);
            let got = got.err().map(|e| without_sites(&e));
            match (registration["error"].as_str(), &got) {
                // With nothing at all Go tells less.
                (Some("http: invalid pattern"), Some(e)) => assert!(e.contains("empty pattern")),
                // Of several that conflict Go names any, since it walks a map.
                (Some(want), Some(got)) if want.contains("conflicts") => {
                    assert!(got.contains("conflicts"), "{pattern}: {got}");
                }
                (Some("non-nil leaf fields"), Some(got)) => assert!(got.contains("conflicts")),
                (want, got) => assert_eq!(got.as_deref(), want, "{pattern}"),
            }
            checked += 1;
        }
    }
    assert!(checked > 700, "only {checked} patterns");
}

#[test]
fn conflicts_are_explained_as_in_go() {
    let mut same = 0;
    for set in vectors() {
        let mut mux = ServeMux::new();
        for registration in set["patterns"].as_array().unwrap() {
            let pattern = registration["pattern"].as_str().unwrap();
            let got = mux.try_handle(pattern, response::not_found).err();
            let want = registration["error"].as_str().unwrap_or_default();
            if let Some(RegisterError::Conflict { other, reason, .. }) = got
                && want.contains(&format!("with pattern {other:?}:"))
            {
                assert!(
                    want.ends_with(&*reason),
                    "{pattern}:\n{want}\nnot\n{reason}"
                );
                same += 1;
            }
        }
    }
    assert!(same > 50, "only {same} conflicts were comparable");
}

/// Answers with the pattern and the values of the recorded wildcards.
fn tell(w: &mut ResponseWriter, r: &mut Request) {
    let pattern = r.pattern().to_owned();
    w.header("X-Pattern", &pattern);
    let mut names = String::new();
    let wildcards = pattern
        .split('{')
        .skip(1)
        .filter_map(|p| p.split('}').next());
    for name in wildcards
        .map(|n| n.trim_end_matches("..."))
        .filter(|n| *n != "$")
    {
        write!(names, "{name}={}|", r.path_value(name)).unwrap();
    }
    w.header("X-Values", names.replace('\0', ""));
}

struct Answer {
    status: u64,
    fields: HashMap<String, String>,
}

fn ask(service: &Arc<crate::service::Service>, request: &str) -> Answer {
    let (mut connection, conn) = connect(service);
    conn.arrive(request.as_bytes());
    run(&mut connection);
    let sent = String::from_utf8(conn.sent()).unwrap();
    let (head, _) = sent.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let field = |l: &str| {
        l.split_once(": ")
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    };
    Answer {
        status: status.parse().unwrap(),
        fields: lines.filter_map(field).collect(),
    }
}

#[test]
fn requests_are_routed_as_in_go() {
    let mut checked = 0;
    for set in vectors() {
        let mut mux = ServeMux::new();
        for registration in set["patterns"].as_array().unwrap() {
            let pattern = registration["pattern"].as_str().unwrap();
            assert_eq!(
                mux.try_handle(pattern, tell).is_err(),
                registration["error"].is_string(),
                "{pattern}"
            );
        }
        let service = service(mux);
        for want in set["requests"].as_array().unwrap() {
            let text = |name: &str| want[name].as_str().unwrap_or_default();
            let (method, target) = (text("method"), text("target"));
            if DIFFERENT.iter().any(|(t, _)| *t == target) {
                continue;
            }
            let host = text("host");
            let got = ask(
                &service,
                &format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            );
            let what = format!("{method} {target} at {host} in {}", set["patterns"]);
            assert_eq!(got.status, want["status"].as_u64().unwrap(), "{what}");
            let field = |name: &str| got.fields.get(name).map_or("", String::as_str);
            assert_eq!(field("X-Pattern"), text("pattern"), "{what}");
            assert_eq!(field("Location"), text("location"), "{what}");
            assert_eq!(field("Allow"), text("allow"), "{what}");
            for (name, value) in want["values"].as_object().into_iter().flatten() {
                let value = format!("{name}={}|", value.as_str().unwrap());
                assert!(field("X-Values").contains(&value), "{what}: {value}");
            }
            checked += 1;
        }
    }
    assert!(checked > 1_000, "only {checked} requests");
}

#[test]
fn a_conflict_names_both_places() {
    let mut mux = ServeMux::new();
    mux.handle_func("/a/{x}", response::not_found);
    let e = mux.try_handle("/{y}/b", response::not_found).unwrap_err();
    let RegisterError::Conflict {
        site, other_site, ..
    } = &e
    else {
        panic!("{e}");
    };
    assert!(site.starts_with(file!()) && other_site.starts_with(file!()));
    assert_ne!(site, other_site);
}

#[test]
fn registration_does_not_grow_with_the_square() {
    // Each pattern would be compared with each before it, 50 million times,
    // were it not for the index.
    let mut mux = ServeMux::new();
    for i in 0..10_000 {
        mux.handle_func(&format!("GET /p{i}/{{id}}/x{}", i % 7), tell);
    }
    let pattern = Pattern::parse("GET /p5/{id}/y", Location::caller()).unwrap();
    let compared = std::cell::Cell::new(0);
    let count = |_: &Pattern| {
        compared.set(compared.get() + 1);
        false
    };
    assert!(mux.index.find(&pattern, count).is_none());
    assert!(compared.get() <= 2, "{} comparisons", compared.get());
    let got = ask(
        &service(mux),
        "GET /p9999/a%2Fb/x3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(got.fields["X-Values"], "id=a/b|");
}

#[test]
fn a_conflict_has_a_request_that_both_match() {
    let nothing = |_: &mut ResponseWriter, _: &mut Request| ();
    for (a, b) in [
        ("/a", "/a"),
        ("/{x}", "/{y}"),
        ("/{x}/b", "/a/{y}"),
        ("POST /{x}", "POST /{y}"),
        ("GET /a/{x}", "/a/b"),
        ("GET /a/{x...}", "/{y}/b"),
        ("/a/", "/{x}/{y}"),
        ("GET /", "/a"),
        ("HEAD /{x...}", "GET /a"),
        ("h.com/{x}/b", "h.com/a/{y}"),
        ("/{x...}", "/{y...}"),
        ("/a%20b/{x}", "/{y}/c%2Fd"),
        ("/{x}/{$}", "/a/{y...}"),
    ] {
        let mut mux = ServeMux::new();
        mux.try_handle(a, nothing).unwrap();
        let Err(RegisterError::Conflict { example, .. }) = mux.try_handle(b, nothing) else {
            panic!("{a} and {b} do not conflict");
        };
        let (method, url) = example.split_once(' ').unwrap();
        let (host, path) = url.split_at(url.find('/').unwrap());
        let request = crate::httptest::request(method, path)
            .header("Host", host)
            .build();
        for pattern in [a, b] {
            let mut only = ServeMux::new();
            only.handle(pattern, nothing);
            let found = only.handler(&request).map(|(_, pattern)| pattern);
            assert_eq!(found, Some(pattern), "{example}");
        }
    }
}

#[test]
fn a_mux_below_another_sees_both_values() {
    let tell = |w: &mut ResponseWriter, r: &mut Request| {
        let values = ["a", "b"].map(|name| r.path_value(name).into_owned());
        let text = format!("{} {} {}", r.pattern(), r.path(), values.join(","));
        std::io::Write::write_all(w, text.as_bytes()).unwrap();
    };
    let mut inner = ServeMux::new();
    inner.handle_func("/x/{b}", tell);
    inner.handle_func("/{$}", tell);
    let mut outer = ServeMux::new();
    outer.mount("/in/{a}", inner);
    outer.not_found_handler(|w: &mut ResponseWriter, _: &mut Request| {
        w.write_header(StatusCode::GONE);
    });
    outer.handle_func("POST /only", tell);
    outer.method_not_allowed_handler(|w: &mut ResponseWriter, _: &mut Request| {
        w.write_header(StatusCode::IM_A_TEAPOT);
    });
    let get = |target: &str| crate::httptest::request("GET", target).serve(&outer);
    assert_eq!(get("/in/1%2F2/x/3").text(), "/x/{b} /x/3 1/2,3");
    assert_eq!(get("/in/1/").text(), "/{$} / 1,");
    assert_eq!(get("/in/1/y").status(), 404);
    assert_eq!(get("/in/1").header("Location"), Some("/in/1/"));
    assert_eq!(get("/none").status(), 410);
    let refused = get("/only");
    assert_eq!(
        (refused.status(), refused.header("Allow")),
        (418, Some("POST"))
    );
}
