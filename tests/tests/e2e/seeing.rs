//! What a server tells of its goroutines, and a handler that computes beside
//! quick ones.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server};

use crate::curl::curl;

on_every_device! {
    a_dump_shows_who_waits_for_which_connection,
    sigquit_prints_the_goroutines_and_ends_with_2,
    spin_computes_for_as_long_as_asked,
    quick_requests_are_answered_while_a_handler_computes,
    an_idle_server_uses_no_cpu,
}

fn url(path: &str) -> String {
    format!("http://{}{path}", Server::V4)
}

/// The paragraphs of a dump that hold `text`.
fn about<'a>(dump: &'a str, text: &str) -> Vec<&'a str> {
    dump.split("\n\n")
        .filter(|part| part.contains(text))
        .collect()
}

fn a_dump_shows_who_waits_for_which_connection(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut idle = server.client();
    assert_eq!(idle.get("/").status, 200);
    let reply = curl(lab, &[&url("/debug/goroutines")]);
    assert_eq!(reply.status, 200);
    let kind = reply.field("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    // The listener and the idle connection, both bound to no thread between
    // steps, and the one that asks. On a busy machine the first two take their time.
    wait_until("all to be where they belong", || {
        let dump = curl(lab, &[&url("/debug/goroutines")]).text();
        let listens = about(&dump, " LISTEN, accept-q 0 of ");
        let waits = about(&dump, "tcp 10.0.0.2:8080 -> 10.0.0.1:");
        let idle = "ESTABLISHED, recv-q 0, send-q 0; to read";
        matches!(&listens[..], [one] if one.contains("[IO wait]: accept"))
            && matches!(&waits[..], [one] if one.contains("[IO wait]") && one.contains(idle))
            && about(&dump, "[running, M").len() == 1
    });
}

fn sigquit_prints_the_goroutines_and_ends_with_2(lab: &Lab) {
    let mut server = Serve::new(lab).start();
    let mut idle = server.client();
    assert_eq!(idle.get("/").status, 200);
    server.daemon().signal(Signal::QUIT);
    let (status, output) = server.daemon().wait();
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains("SIGQUIT: quit\n"), "{output}");
    assert!(output.contains("goroutine 1 ["), "{output}");
    assert!(output.contains(" ESTABLISHED, recv-q 0"), "{output}");
    assert!(output.contains("created at "), "{output}");
}

fn spin_computes_for_as_long_as_asked(lab: &Lab) {
    let server = Serve::new(lab).start();
    let reply = curl(lab, &[&url("/spin?ms=60")]);
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (200, "computed for 60 ms\n")
    );
    for bad in ["10001", "-1", "long"] {
        assert_eq!(
            curl(lab, &[&url(&format!("/spin?ms={bad}"))]).status,
            400,
            "{bad}"
        );
    }
    wait_until("the run to be counted", || server.counter("long_runs") == 1);
    let counters = server.counters();
    let run = &counters["long_runs"][0];
    assert_eq!(run["runs"].as_u64(), Some(1), "{counters:#}");
    assert!(run["longest_ms"].as_u64().unwrap() >= 30, "{counters:#}");
    assert!(
        run["created_at"]
            .as_str()
            .unwrap()
            .starts_with("server/src/"),
        "{counters:#}"
    );
}

/// With one P, and a handler that keeps it, a spare P serves the others.
fn quick_requests_are_answered_while_a_handler_computes(lab: &Lab) {
    let server = Serve::new(lab).args(&["--maxprocs", "1"]).start();
    let mut quick = server.client();
    assert_eq!(quick.get("/").status, 200);
    std::thread::scope(|scope| {
        let computes = scope.spawn(|| server.client().get("/spin?ms=3000"));
        wait_until("the handler to run", || {
            // Asked for on a connection of its own, which is new: so this, too,
            // is answered by the spare P.
            let long: Value = server.counters()["long_runs"].clone();
            !long[0].is_null()
        });
        assert_eq!(quick.get("/").status, 200);
        assert!(!computes.is_finished(), "answered while it computes");
        assert_eq!(computes.join().unwrap().status, 200);
    });
    wait_until("the spare P to retire", || {
        server.counter("procs_spare_used") == 0
    });
}

/// CPU time of a process, in ticks (proc(5): utime and stime).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = rest.split_whitespace().collect();
    [11, 12]
        .iter()
        .map(|&at| fields[at].parse::<u64>().unwrap())
        .sum()
}

/// How often the threads of a process were switched in.
fn switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let path = thread.unwrap().path().join("status");
        let status = std::fs::read_to_string(path).unwrap();
        let lines = status.lines().filter(|l| l.contains("ctxt_switches"));
        let number = |line: &str| line.rsplit_once('\t').unwrap().1.parse::<u64>().unwrap();
        lines.map(number).sum::<u64>()
    };
    threads.map(of).sum()
}

fn an_idle_server_uses_no_cpu(lab: &Lab) {
    let mut server = Serve::new(lab).without_capture().start();
    let mut idle = server.client();
    assert_eq!(idle.get("/").status, 200);
    let pid = server.daemon().pid();
    // Until what follows a request is done: delayed acknowledgements, and
    // buffers that are given back after some seconds.
    wait_until("rest", || {
        let before = switches(pid);
        std::thread::sleep(Duration::from_secs(1));
        switches(pid) - before <= 2
    });
    let (before, woken) = (ticks(pid), switches(pid));
    std::thread::sleep(Duration::from_secs(5));
    assert!(ticks(pid) - before <= 1, "{} ticks", ticks(pid) - before);
    // A timer of 10 ms that never rests would be 500; neighbour discovery and
    // whoever else uses the processor account for some.
    assert!(
        switches(pid) - woken <= 100,
        "{} switches in 5 s",
        switches(pid) - woken
    );
}
