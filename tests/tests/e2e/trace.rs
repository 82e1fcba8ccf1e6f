//! The flight recorder, and what `wirepath trace` makes of what it wrote.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, bin, process};

on_every_device! {
    a_slow_handler_is_recorded_and_named,
    a_recording_is_asked_for_and_opens_in_perfetto,
    a_handler_that_panics_is_recorded,
}

/// What `wirepath trace` prints.
#[track_caller]
fn trace(args: &[&str]) -> String {
    let mut command = std::process::Command::new(bin::wirepath());
    process::run(command.arg("trace").args(args)).ok().text()
}

/// The recordings that are whole, by name.
fn recordings(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()));
    let mut all: Vec<_> = entries.into_iter().flatten().collect();
    all.retain(|path| path.extension().is_some_and(|suffix| suffix == "wptrace"));
    all.sort();
    all
}

fn a_slow_handler_is_recorded_and_named(lab: &Lab) {
    let dir = lab.dir().join("recordings");
    let flags = ["--record-dir", dir.to_str().unwrap(), "--slow", "150ms"];
    let one = ["--maxprocs", "1"];
    let server = Serve::new(lab).args(&flags).args(&one).start();
    server.check_alive();
    assert_eq!(recordings(&dir), Vec::<PathBuf>::new());
    assert_eq!(server.get("/spin?ms=200").status, 200);
    wait_until("a recording", || !recordings(&dir).is_empty());
    let file = recordings(&dir).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("-0001-latency.wptrace"), "{name}");
    let file = file.to_str().unwrap();

    let said = trace(&["why-slow", file]);
    let slowest = said.lines().find(|line| line.starts_with('#')).unwrap();
    assert!(slowest.contains("GET /spin?ms=200 → 200"), "{said}");
    let cause = said
        .lines()
        .skip_while(|line| !line.starts_with('#'))
        .nth(1);
    assert!(
        cause.unwrap().ends_with("computing in the handler"),
        "{said}"
    );

    let tree = trace(&["tree", file, "--route", "/spin"]);
    assert!(tree.contains("/spin?ms=200 → 200"), "{tree}");
    for stage in [
        "2 driver.poll",
        "4 tcp.ingress",
        "14 http.handler",
        "12 driver.kick",
    ] {
        assert!(tree.contains(stage), "{stage}: {tree}");
    }
    let summary: Value = serde_json::from_str(&trace(&["summary", "--json", file])).unwrap();
    assert_eq!(
        (&summary["why"], &summary["requests"]),
        (&"latency".into(), &2.into())
    );
}

fn a_recording_is_asked_for_and_opens_in_perfetto(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    for n in 0..20 {
        assert_eq!(client.get(&format!("/users/{n}")).status, 200);
    }
    assert_eq!(client.get("/big").status, 200);
    let reply = server.get("/debug/wirepath/trace");
    assert_eq!(reply.status, 200);
    let file = lab.dir().join("asked.wptrace");
    fs::write(&file, &reply.body).unwrap();
    let file = file.to_str().unwrap();

    let told = trace(&["tree", "--json", file, "--route", "/big"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(told["request"], "GET /big");
    assert!(number(&told["bytes_out"]) > 1 << 20, "{told}");
    let hops = told["hops"].as_array().unwrap();
    let len = |hop: &Value| number(&hop["to_ns"]) - number(&hop["from_ns"]);
    let sum: u64 = hops.iter().map(len).sum();
    assert_eq!(sum, number(&told["end"]) - number(&told["start"]));

    let out = lab.dir().join("perfetto.json");
    trace(&["perfetto", file, "-o", out.to_str().unwrap()]);
    let json: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    check_perfetto(events);
    check_slices_nest(events);
    let of = |phase: &'static str| events.iter().filter(move |e| e["ph"] == phase);
    let requests = of("X").filter(|e| e["args"]["route"] == "/users/{id}");
    assert_eq!(requests.count(), 20);
    // A frame's, to the flow, to the goroutine, and back, of each.
    assert!(of("s").count() >= 3 * 21, "{}", of("s").count());
}

/// The rules of the JSON trace event format that viewers stand on.
#[track_caller]
fn check_perfetto(events: &[Value]) {
    let is = |e: &Value, field: &str| e[field].is_number();
    let named: Vec<_> = events
        .iter()
        .filter(|e| e["name"] == "thread_name")
        .collect();
    let mut starts = Vec::new();
    for e in events {
        let phase = e["ph"].as_str().unwrap();
        assert!(is(e, "pid"), "{e}");
        if phase == "M" {
            continue;
        }
        assert!(is(e, "ts") && is(e, "tid"), "{e}");
        let is_named = |name: &&&Value| name["pid"] == e["pid"] && name["tid"] == e["tid"];
        assert!(
            named.iter().any(|name| is_named(&name)),
            "a track without a name: {e}"
        );
        match phase {
            "X" => assert!(e["dur"].as_f64().unwrap() >= 0.0, "{e}"),
            "s" => starts.push(e["id"].clone()),
            "f" => assert_eq!(
                Some(&e["id"]),
                starts.last(),
                "an arrow ends where none began"
            ),
            "i" => assert_eq!(e["s"], "t"),
            other => panic!("{other} is not used: {e}"),
        }
    }
}

/// Slices of a track nest: viewers drop those that begin in one and end after it.
#[track_caller]
fn check_slices_nest(events: &[Value]) {
    let mut tracks: BTreeMap<String, Vec<(u64, Reverse<u64>)>> = BTreeMap::new();
    for e in events.iter().filter(|e| e["ph"] == "X") {
        let ns = |field: &str| (e[field].as_f64().unwrap() * 1e3).round() as u64;
        let slices = tracks.entry(e["tid"].to_string()).or_default();
        slices.push((ns("ts"), Reverse(ns("ts") + ns("dur"))));
    }
    for slices in tracks.values_mut() {
        slices.sort_unstable();
        let mut open: Vec<u64> = Vec::new();
        for &(from, Reverse(to)) in slices.iter() {
            // Times are rounded to microseconds' fractions: one nanosecond is none.
            open.retain(|end| *end > from + 1);
            assert!(open.iter().all(|end| to <= *end + 1), "{from} to {to}");
            open.push(to);
        }
    }
}

fn a_handler_that_panics_is_recorded(lab: &Lab) {
    let dir = lab.dir().join("recordings");
    let server = Serve::new(lab)
        .args(&["--record-dir", dir.to_str().unwrap()])
        .start();
    let mut client = server.client();
    client.send(wirepath_tests::http::request("GET", "/panic"));
    assert!(client.reply().is_err());
    wait_until("a recording", || !recordings(&dir).is_empty());
    let file = recordings(&dir).remove(0);
    let summary = trace(&["summary", file.to_str().unwrap()]);
    assert!(summary.starts_with("recording of process"), "{summary}");
    assert!(
        summary.lines().next().unwrap().ends_with("(panic)"),
        "{summary}"
    );
}

#[test]
fn what_is_no_recording_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    fs::write(&file, "dear diary\n").unwrap();
    let mut command = std::process::Command::new(bin::wirepath());
    let out = process::run(command.args(["trace", "summary"]).arg(&file));
    assert_eq!(out.status.code(), Some(2));
    let said = &out.stderr;
    assert!(
        said.contains("no recording of wirepath") && said.lines().count() == 1,
        "{said}"
    );
}

/// Loss on the way out, and a handler that computes: each is named as the cause
/// of its request's time.
#[test]
fn why_slow_names_a_retransmission_and_a_computation() {
    let lab = lab!("why_slow");
    let server = Serve::new(&lab)
        .args(&["--impair", "tx.loss=2%,seed=5", "--maxprocs", "1"])
        .start();
    assert_eq!(server.get("/spin?ms=400").status, 200);
    assert_eq!(server.get("/big").status, 200);
    let path = lab.dir().join("asked.wptrace");
    let url = "http://10.0.0.2:8080/debug/wirepath/trace";
    lab.run("curl", &["-s", "-o", path.to_str().unwrap(), url])
        .ok();
    let text = trace(&["why-slow", path.to_str().unwrap()]);
    let of = |request: &str| -> String {
        let parts = text.split("\n#").filter(|part| part.contains(request));
        parts.map(str::to_owned).collect()
    };
    assert!(
        of("GET /spin?ms=400").contains("computing in the handler"),
        "{text}"
    );
    assert!(
        of("GET /big").contains("sending again what was lost")
            || of("GET /big").contains("waiting for the peer"),
        "{text}"
    );
    println!("{text}");
}

/// A recording has the last frames if that was asked for, and a running server
/// gives one over its control socket.
#[test]
fn frames_come_with_a_recording_and_a_running_server_gives_one() {
    let lab = lab!("recorded_frames");
    let dir = lab.dir().join("recordings");
    let socket = lab.dir().join("control.sock");
    let socket = socket.to_str().unwrap();
    let flags = [
        "--record-dir",
        dir.to_str().unwrap(),
        "--record-frames",
        "1MiB",
        "--control",
        socket,
    ];
    let mut server = Serve::new(&lab).args(&flags).start();
    assert_eq!(server.get("/users/ann").status, 200);
    server.daemon().signal(rustix::process::Signal::USR2);
    wait_until("a recording", || !recordings(&dir).is_empty());
    let recording = &recordings(&dir)[0];
    let frames = lab.dir().join("frames.pcapng");
    trace(&[
        "frames",
        recording.to_str().unwrap(),
        "-o",
        frames.to_str().unwrap(),
    ]);
    let asked = crate::capture::tshark(&lab, &frames, "http.request", "http.request.uri");
    assert_eq!(asked, ["/users/ann"]);
    let summary: Value =
        serde_json::from_str(&trace(&["summary", "--from", socket, "--json"])).unwrap();
    assert!(summary["requests"].as_u64() >= Some(1), "{summary}");
    let saved = lab.dir().join("saved.wptrace");
    trace(&["save", saved.to_str().unwrap(), "--from", socket]);
    assert!(trace(&["tree", saved.to_str().unwrap()]).contains("/users/ann"));
    let mut explain = std::process::Command::new(bin::wirepath());
    let told =
        process::run(explain.args(["explain", saved.to_str().unwrap(), "--stage", "g.run"])).ok();
    assert!(told.text().contains("7 g.run · A P picks it"), "{told}");
}
