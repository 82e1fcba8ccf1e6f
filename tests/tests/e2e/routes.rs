//! Each route of the demo site, asked for with curl.

use serde_json::Value;
use wirepath_tests::{Lab, Serve, Server};

use crate::curl::curl;

on_every_device! {
    the_front_page,
    pages_with_and_without_a_name,
    echo_takes_a_post_only,
    curl_waits_for_100_continue_and_gets_it,
    big_is_a_mebibyte,
    stream_comes_in_chunks,
    a_panic_costs_its_connection_and_no_other,
    sleep_does_not_hold_up_others,
    the_counters_are_json_and_grow,
    prometheus_is_told_what_happened,
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Server::V4)
}

fn the_front_page(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let reply = curl(lab, &[&url("/")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, b"Hello, World!\n");
    assert_eq!(reply.field("content-length"), Some("14"));
    let kind = reply.field("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let date = reply.field("date").expect("RFC 9110 §6.6.1 wants a Date");
    assert!(date.ends_with(" GMT"), "{date}");

    let reply = curl(lab, &["--head", &url("/")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("content-length"), Some("14"));
    assert!(reply.body.is_empty());
}

fn pages_with_and_without_a_name(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let about = curl(lab, &[&url("/about")]);
    assert_eq!(about.status, 200);
    assert!(!about.body.is_empty());

    for id in ["42", "ada", "%C3%A9"] {
        let user = curl(lab, &[&url(&format!("/users/{id}"))]);
        assert_eq!(user.status, 200);
        let id = if id == "%C3%A9" { "é" } else { id };
        assert!(user.text().contains(id), "{}", user.text());
    }

    for missing in ["/nope", "/about/", "/users/", "/users/1/2", "/echo/x"] {
        let reply = curl(lab, &[&url(missing)]);
        assert_eq!(reply.status, 404, "{missing}");
    }
}

fn echo_takes_a_post_only(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let reply = curl(lab, &["--data-binary", "to and fro", &url("/echo")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, b"to and fro");

    let reply = curl(lab, &["--data-binary", "", &url("/echo")]);
    assert_eq!((reply.status, reply.body.len()), (200, 0));

    let reply = curl(lab, &[&url("/echo")]);
    assert_eq!(reply.status, 405);
    assert_eq!(reply.field("allow"), Some("POST"));
}

fn curl_waits_for_100_continue_and_gets_it(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let args = [
        "-v",
        "-H",
        "Expect: 100-continue",
        "--expect100-timeout",
        "50",
    ];
    let to = url("/echo");
    let out = lab.run(
        "curl",
        &[&args[..], &["-sS", "-d", "patience", &to]].concat(),
    );
    let out = out.ok();
    assert!(out.stderr.contains("< HTTP/1.1 100 Continue"), "{out}");
    assert_eq!(out.stdout, b"patience");
}

fn big_is_a_mebibyte(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let reply = curl(lab, &[&url("/big")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.len(), 1 << 20);
}

fn stream_comes_in_chunks(lab: &Lab) {
    let server = Serve::new(lab).start();
    let reply = curl(lab, &[&url("/stream?n=5")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
    assert_eq!(reply.field("content-length"), None);
    assert_eq!(reply.text().lines().count(), 5, "{}", reply.text());

    // Each line was flushed: it is a chunk of its own on the wire.
    let mut client = server.client();
    client.send("GET /stream?n=3 HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    client.head().unwrap();
    let framed = String::from_utf8(client.rest().unwrap()).unwrap();
    let sizes = framed
        .trim_end()
        .split("\r\n")
        .step_by(2)
        .map(|size| usize::from_str_radix(size, 16).expect("a chunk's size"))
        .collect::<Vec<_>>();
    assert_eq!(sizes.len(), 4, "three chunks and the last: {framed:?}");
    assert_eq!(sizes[3], 0);
}

fn a_panic_costs_its_connection_and_no_other(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut bystander = server.client();
    assert_eq!(bystander.get("/").status, 200);

    let out = lab.run("curl", &["-sS", "--max-time", "60", &url("/panic")]);
    // 52: the server closed without a reply, as Go's does.
    assert_eq!(out.status.code(), Some(52), "{out}");

    assert_eq!(bystander.get("/").status, 200);
    server.check_alive();
}

fn sleep_does_not_hold_up_others(lab: &Lab) {
    let server = Serve::new(lab).args(&["--maxprocs", "1"]).start();
    let mut sleeper = server.client();
    sleeper.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: lab\r\n\r\n");
    // On one P, these are served by it while that one sleeps.
    for _ in 0..10 {
        server.check_alive();
    }
    let reply = sleeper.reply().unwrap();
    assert_eq!(reply.status, 200);
}

fn the_counters_are_json_and_grow(lab: &Lab) {
    let server = Serve::new(lab).start();
    let reply = curl(lab, &[&url("/debug/wirepath/counters")]);
    let kind = reply.field("content-type").unwrap();
    assert!(kind.starts_with("application/json"), "{kind}");
    let before = sum(&server.counters());
    for _ in 0..100 {
        server.check_alive();
    }
    let after = sum(&server.counters());
    // 100 connections are more than 100 frames, whatever else is counted.
    assert!(after > before + 100, "{before} then {after}");
}

fn prometheus_is_told_what_happened(lab: &Lab) {
    let server = Serve::new(lab).args(&["--metrics"]).start();
    for _ in 0..5 {
        server.check_alive();
    }
    let reply = curl(lab, &[&url("/metrics")]);
    let kind = reply.field("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = reply.text();
    let number = |series: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let number = line.and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {series} in {text}"))
    };
    let labels = r#"{route="/{$}",method="GET",status="2xx"}"#;
    let requests = number(&format!("wirepath_request_duration_seconds_count{labels} "));
    assert_eq!(requests, 5);
    // A connection is a SYN, a request and a FIN at least.
    assert!(number("wirepath_frames_stack_rx_total ") >= 15);
    assert!(number("wirepath_frames_stack_rx_to_connection_total ") >= 10);
    assert_eq!(number("wirepath_frames_stack_tx_waiting "), 0);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

/// All numbers in a value, added up.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::Array(values) => values.iter().map(sum).sum(),
        Value::Object(values) => values.values().map(sum).sum(),
        _ => 0,
    }
}
