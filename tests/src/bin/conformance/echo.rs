//! `/echo`: the request as the handler saw it, in JSON. Bytes are code points
//! from 0 to 255.

use std::io::{Read, Write};

use serde_json::{Map, Value, json};
use wirepath::http::{StatusCode, Version};
use wirepath::{Fields, Request, ResponseWriter};

/// Fields that net/http takes out of a request's header.
const NOT_LISTED: [&str; 3] = ["Host", "Transfer-Encoding", "Trailer"];

/// Answers with the request.
pub fn echo(w: &mut ResponseWriter, r: &mut Request) {
    let mut body = Vec::new();
    if r.body.read_to_end(&mut body).is_err() {
        // In the same words as the program of tests/oracle, whose errors differ.
        wirepath::error(w, "the body is broken", StatusCode::BAD_REQUEST);
        return;
    }
    w.header("Content-Type", "application/json");
    let text = format!("{}\n", describe(r, &body));
    // An error means that the client is gone, which the server sees by itself.
    let _ = w.write_all(text.as_bytes());
}

fn describe(r: &Request, body: &[u8]) -> Value {
    let is_chunked = r.content_length().is_none();
    let te: &[&str] = if is_chunked { &["chunked"] } else { &[] };
    let length = r.content_length().map_or(json!(-1), |n| json!(n));
    json!({
        "method": r.method().as_str(),
        "target": points(r.target().as_bytes()),
        "path": points(&r.path_bytes()),
        "query": points(r.query().as_bytes()),
        "proto": proto(r),
        "host": points(r.host().as_bytes()),
        "cl": length,
        "te": te,
        "header": fields(&r.headers, &NOT_LISTED),
        "trailer": trailer(r),
        "body": points(body),
        "remote": r.remote_addr().to_string(),
    })
}

fn proto(r: &Request) -> &str {
    match r.version() {
        Version::HTTP_10 => "HTTP/1.0",
        _ => r.proto(),
    }
}

/// What was announced, and what came.
fn trailer(r: &Request) -> Value {
    let announced = r.headers.get_all("Trailer");
    let names = announced.flat_map(|value| value.split(|&b| b == b','));
    let mut map: Map<_, _> = names
        .map(|name| {
            (
                canonical(&String::from_utf8_lossy(name.trim_ascii())),
                Value::Null,
            )
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if let Value::Object(came) = fields(r.trailers(), &[]) {
        map.extend(came);
    }
    Value::Object(map)
}

/// The fields by their canonical names, without some.
fn fields(fields: &Fields, without: &[&str]) -> Value {
    let mut map = Map::new();
    for (name, value) in fields.iter() {
        let name = canonical(name);
        if !without.contains(&name.as_str()) {
            let values = map.entry(name).or_insert_with(|| json!([]));
            let list = values.as_array_mut().expect("made as a list");
            list.push(points(value).into());
        }
    }
    Value::Object(map)
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut starts = true;
    let letters = name.chars().map(|c| {
        let c = if starts {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        starts = c == '-';
        c
    });
    letters.collect()
}

/// Each byte as the code point of its number.
pub fn points(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}
