//! Compressed responses, read back with the crates' decoders.

use std::io::{Read, Write};

use super::*;
use crate::httptest::{Response, TestServer, request};
use crate::{ResponseWriter, ServeMux};

fn decode(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut out),
        "zstd" => zstd::stream::copy_decode(body, &mut out).map(|()| 0),
        other => panic!("{other}"),
    }
    .unwrap();
    out
}

/// Lines that compress well, but not to nothing.
fn text(len: usize) -> String {
    let lines = (0..).map(|i: u64| format!("{i} {:x}\n", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut text: String = lines.take(len / 16 + 1).collect();
    text.truncate(len);
    text
}

fn get(target: &str, accept: &str, handler: &impl Handler) -> Response {
    let r = request("GET", target).header("Accept-Encoding", accept);
    r.serve(handler)
}

fn writes(body: String) -> impl Fn(&mut ResponseWriter, &mut Request) + Send + Sync {
    move |w: &mut ResponseWriter, r: &mut Request| {
        w.header("Content-Type", "text/plain");
        w.header("ETag", "\"x\"").header("Accept-Ranges", "bytes");
        // Declared by some; what is sent is shorter.
        if r.query() == "declared" {
            w.header("Content-Length", body.len().to_string());
        }
        for piece in body.as_bytes().chunks(777) {
            w.write_all(piece).unwrap();
        }
    }
}

#[test]
fn every_coding_reads_back_at_every_size() {
    for len in [0, 1, 776, 1023, 1024, 2048, 2049, 70_000, 1_000_000] {
        let body = text(len);
        let handler = Compress::new(writes(body.clone())).min_bytes(0);
        for coding in ["gzip", "br", "zstd"] {
            for target in ["/", "/?declared"] {
                let answer = get(target, coding, &handler);
                assert_eq!(answer.header("Content-Encoding"), Some(coding), "{len}");
                assert_eq!(answer.header("Vary"), Some("Accept-Encoding"));
                assert_eq!(answer.header("ETag"), Some("W/\"x\""));
                assert_eq!(answer.header("Accept-Ranges"), None);
                assert!(
                    decode(coding, &answer.body) == body.as_bytes(),
                    "{coding} {len}"
                );
                assert!(len < 2048 || answer.body.len() < len * 9 / 10);
            }
        }
    }
}

#[test]
fn levels_are_kept_within_what_there_is() {
    let body = text(50_000);
    for coding in Coding::ALL {
        let sizes = [0, 99].map(|level| {
            let handler = Compress::new(writes(body.clone())).level(coding, level);
            let answer = get("/", coding.name(), &handler);
            assert!(decode(coding.name(), &answer.body) == body.as_bytes());
            answer.body.len()
        });
        assert!(sizes[1] < sizes[0], "{coding:?}: {sizes:?}");
    }
}

#[test]
fn what_is_left_as_it_is() {
    type Set = &'static [(&'static str, &'static str)];
    let big: &str = "5000";
    // Fields of the response, its length, and whether it is compressed and has
    // `Vary`.
    let table: [(Set, &str, bool, bool); 15] = [
        (
            &[("Content-Type", "text/html; charset=utf-8")],
            big,
            true,
            true,
        ),
        (&[("Content-Type", "Application/JSON")], big, true, true),
        (
            &[("Content-Type", "application/problem+json")],
            big,
            true,
            true,
        ),
        (&[("Content-Type", "image/svg+xml")], big, true, true),
        (&[("Content-Type", "image/png")], big, false, false),
        (&[("Content-Type", "text/event-stream")], big, false, false),
        (&[("Content-Type", "application/x-tar")], big, true, true),
        // Sniffed.
        (&[], big, true, true),
        (&[], "1023", false, false),
        (&[], "1024", true, true),
        (
            &[("Content-Encoding", "br"), ("Content-Type", "text/html")],
            big,
            false,
            false,
        ),
        (
            &[("Cache-Control", "public, No-Transform")],
            big,
            false,
            false,
        ),
        (&[("Content-Range", "bytes 0-4999/9000")], big, false, false),
        (&[("Vary", "accept-encoding, Cookie")], big, true, true),
        (&[("Vary", "Cookie")], big, true, true),
    ];
    for (fields, len, compressed, varies) in table {
        let handler = Compress::new(move |w: &mut ResponseWriter, _: &mut Request| {
            for (name, value) in fields {
                w.header(name, value);
            }
            w.write_all(text(len.parse().unwrap()).as_bytes()).unwrap();
        })
        .content_type("application/x-tar");
        let answer = get("/", "gzip", &handler);
        let is_compressed = answer.body.starts_with(&[0x1f, 0x8b]);
        assert_eq!(is_compressed, compressed, "{fields:?} {len}");
        let values = answer.headers.get_all("Vary").iter();
        let values: Vec<_> = values.map(|v| v.to_str().unwrap().to_lowercase()).collect();
        let named = values.iter().filter(|v| v.contains("accept-encoding"));
        assert_eq!(named.count(), usize::from(varies), "{fields:?}");
        // Who accepts nothing gets the same, as it is.
        let plain = get("/", "identity", &handler);
        assert_eq!(plain.body.len().to_string(), len);
        assert_eq!(plain.headers.contains_key("Vary"), !values.is_empty());
    }
}

#[test]
fn statuses_and_head() {
    let handler = Compress::new(|w: &mut ResponseWriter, r: &mut Request| {
        w.header("ETag", "\"x\"")
            .header("Content-Type", "text/plain");
        w.write_header(r.query().parse::<u16>().unwrap().try_into().unwrap());
        let _ = w.write_all(text(5000).as_bytes());
    });
    for (status, compressed) in [
        (200, true),
        (404, true),
        (206, false),
        (204, false),
        (304, false),
    ] {
        let answer = get(&format!("/?{status}"), "gzip", &handler);
        assert_eq!(answer.status(), status);
        let coding = answer.header("Content-Encoding");
        assert_eq!(coding.is_some(), compressed, "{status}");
    }
    assert!(get("/?304", "gzip", &handler).headers.contains_key("Vary"));
    let head = request("HEAD", "/?200").header("Accept-Encoding", "gzip");
    let head = head.serve(&handler);
    assert_eq!(head.header("Content-Encoding"), None);
    assert_eq!(head.header("Vary"), Some("Accept-Encoding"));
}

#[test]
fn compressing_twice_is_compressing_once() {
    let handler = Compress::new(Compress::new(writes(text(5000))));
    let answer = get("/", "gzip", &handler);
    assert_eq!(answer.header("Content-Encoding"), Some("gzip"));
    assert_eq!(decode("gzip", &answer.body), text(5000).as_bytes());
}

/// What was flushed can be read before the response ends.
#[test]
fn a_flush_ends_a_block() {
    for coding in Coding::ALL {
        let options = Compress::new(ServeMux::new()).options;
        let mut encoder = options.pool.take(coding, 3).unwrap();
        let mut out = Vec::new();
        for i in 0..200_u32 {
            encoder
                .write(format!("event {i}\n").as_bytes(), &mut out)
                .unwrap();
            encoder.flush(&mut out).unwrap();
            let mut got = Vec::new();
            let want = format!("event {i}\n");
            let mut piece = [0; 4096];
            let mut reader: Box<dyn Read> = match coding {
                Coding::Gzip => Box::new(flate2::read::GzDecoder::new(&*out)),
                Coding::Brotli => Box::new(brotli::Decompressor::new(&*out, 4096)),
                Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(&*out).unwrap()),
            };
            // The end is missing: what there is comes before the error.
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                got.extend_from_slice(&piece[..n]);
            }
            assert!(got.ends_with(want.as_bytes()), "{coding:?} {i}");
        }
        encoder.finish(&mut out).unwrap();
        assert!(decode(coding.name(), &out).ends_with(b"event 199\n"));
    }
}

#[test]
fn encoders_are_used_again_also_after_a_response_that_broke_off() {
    let handler = Compress::new(|w: &mut ResponseWriter, r: &mut Request| {
        w.header("Content-Type", "text/plain");
        w.write_all(text(100_000).as_bytes()).unwrap();
        assert!(r.query().is_empty(), "on purpose");
    });
    let server = TestServer::start(handler);
    for _ in 0..5 {
        for coding in ["gzip", "zstd", "br"] {
            let broken = request("GET", "/?panic").header("Accept-Encoding", coding);
            assert!(server.send(&broken).is_err());
            let whole = request("GET", "/").header("Accept-Encoding", coding);
            let answer = server.send(&whole).unwrap();
            assert!(decode(coding, &answer.body) == text(100_000).as_bytes());
        }
    }
}

#[test]
fn requests_are_decoded_up_to_a_bound() {
    let bomb = vec![b'0'; 10 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bomb).unwrap();
    let mut br = Vec::new();
    brotli::CompressorWriter::new(&mut br, 4096, 5, 22)
        .write_all(&bomb)
        .unwrap();
    let coded = [
        ("gzip", gzip.finish().unwrap()),
        ("br", br),
        ("zstd", zstd::encode_all(&*bomb, 3).unwrap()),
        ("identity", bomb.clone()),
    ];
    for (coding, body) in coded {
        for (max, fits) in [(bomb.len() as u64, true), (bomb.len() as u64 - 1, false)] {
            let mut r = request("POST", "/")
                .header("Content-Encoding", coding)
                .body(body.clone())
                .build();
            let mut got = Vec::new();
            let read = decoded_body(&mut r, max).unwrap().read_to_end(&mut got);
            match read {
                Ok(_) => assert!(fits && got == bomb, "{coding}"),
                Err(e) => {
                    assert!(!fits, "{coding}: {e}");
                    let inner = e.get_ref().unwrap().downcast_ref();
                    assert!(matches!(inner, Some(DecodeError::TooLarge(n)) if *n == max));
                }
            }
        }
    }
    let mut twice = request("POST", "/")
        .header("Content-Encoding", "gzip, br")
        .build();
    let refused = decoded_body(&mut twice, 1).err().unwrap();
    assert!(matches!(refused, DecodeError::Unsupported(name) if name == "gzip, br"));
}
