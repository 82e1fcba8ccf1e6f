//! What it costs to find a handler, and to serve a browser's request, in memory.
//!
//! `exchange` is all that the server does for a request: reading and parsing the
//! head, finding the handler among 100 patterns, and writing the response.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use wirepath::{Request, ResponseWriter, ServeMux, httptest};

/// Requests on the connection of one measurement.
const PIPELINE: usize = 1_000;

/// A browser's head: what Firefox sends for a page.
const BROWSER: &str = "GET /api/v1/users/42/posts?sort=new&page=2 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/api/v1/users\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=0, i\r\n\r\n";

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    let _ = w.write_all(b"hello\n");
}

/// Patterns as of a REST service, `count` of them, and the one that is asked for.
fn patterns(count: usize) -> Vec<String> {
    let mut patterns: Vec<String> = (0..count - 1)
        .map(|i| format!("GET /api/v{}/things{i}/{{id}}/parts/{{part}}", i % 7))
        .collect();
    patterns.push("GET /api/v1/users/{id}/posts".to_owned());
    patterns
}

fn mux(patterns: &[String]) -> ServeMux {
    let mut mux = ServeMux::new();
    for pattern in patterns {
        mux.handle_func(pattern, hello);
    }
    mux
}

fn route(c: &mut Criterion) {
    let request = httptest::request("GET", "/api/v1/users/42/posts").build();
    for count in [10, 100, 10_000] {
        let mux = mux(&patterns(count));
        assert!(mux.handler(&request).is_some());
        c.bench_function(&format!("route/{count}"), |b| {
            b.iter(|| black_box(mux.handler(black_box(&request)).is_some()));
        });
    }
}

fn register(c: &mut Criterion) {
    let patterns = patterns(10_000);
    c.bench_function("register/10000", |b| {
        b.iter_batched(|| (), |()| mux(&patterns), BatchSize::LargeInput);
    });
}

fn exchange(c: &mut Criterion) {
    let patterns = patterns(100);
    let pipeline = BROWSER.repeat(PIPELINE);
    c.bench_function("exchange/100", |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let mux = mux(&patterns);
                let begun = Instant::now();
                let answer = httptest::answer_to(mux, [pipeline.as_bytes()]);
                took += begun.elapsed();
                assert!(answer.ends_with(b"hello\n"));
            }
            took / PIPELINE as u32
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = route, register, exchange
}
criterion_main!(benches);
