//! A connection's bytes: requests, their heads, lengths, chunks and trailers.
//! However they are cut, the answers are the same.

#![no_main]

use std::io::{Read, Write};

use libfuzzer_sys::fuzz_target;
use wirepath::{Request, ResponseWriter, httptest};

fn echo(w: &mut ResponseWriter, r: &mut Request) {
    let mut body = Vec::new();
    let read = r.body.read_to_end(&mut body);
    let told = format!("{} {} {:?} {read:?}\n", r.method(), r.target(), r.host());
    let _ = w.write_all(told.as_bytes());
    let _ = w.write_all(&body);
    for (name, value) in r.trailers().iter() {
        let _ = write!(w, "{name}: {value:?}\n");
    }
}

/// Answers without their dates, which are those of two moments.
fn undated(answer: &[u8]) -> Vec<&[u8]> {
    let lines = answer.split(|&b| b == b'\n');
    lines.filter(|line| !line.starts_with(b"Date: ")).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let whole = httptest::answer_to(echo, [bytes]);
    let cut = httptest::answer_to(echo, bytes.chunks(usize::from(cut) % 61 + 1));
    assert_eq!(undated(&whole), undated(&cut));
});
