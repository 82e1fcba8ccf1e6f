//! Asking a running server: `wirepath ss`, `goroutines` and `top` over its
//! control socket.

use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use wirepath_tests::load::Load;
use wirepath_tests::terminal::Terminal;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Serve, Server, bin, process};

use crate::curl::curl;

/// What a command prints about the server at `socket`.
#[track_caller]
fn ask(socket: &str, args: &[&str]) -> String {
    let mut command = Command::new(bin::wirepath());
    command.args(args).arg(socket);
    process::run(&mut command).ok().text()
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_server_under_load_is_asked_from_outside() {
    let lab = lab!("control");
    let socket = lab.dir().join("control.sock");
    let socket = socket.to_str().expect("the lab's folder is plain");
    let server = Serve::new(&lab).args(&["--control", socket]).start();
    let load = Load::start(lab.net(), Server::V4, "/users/7", 4);
    load.wait_for(100);

    let flows = ask(socket, &["ss", "-i", "--port", "8080"]);
    assert!(flows.lines().count() > 4, "{flows}");
    assert!(
        flows.contains("ESTAB ") && flows.contains("est-rtt:"),
        "{flows}"
    );
    assert_eq!(ask(socket, &["ss", "--state", "last-ack", "--json"]), "");

    assert!(ask(socket, &["goroutines"]).starts_with("goroutine 1 ["));
    let counts = json(&ask(socket, &["goroutines", "--by", "reason", "--json"]));
    assert!(counts["IO wait"].as_u64() >= Some(1), "{counts}");

    let frame = ask(socket, &["top", "--once", "--interval", "300ms"]);
    for words in ["requests/s", "frames/s", "pool [", "/users/{id}", "P0"] {
        assert!(frame.contains(words), "no «{words}» in\n{frame}");
    }
    let once = json(&ask(
        socket,
        &["top", "--once", "--json", "--interval", "300ms"],
    ));
    assert!(once["rates"]["requests"].as_f64() > Some(0.0), "{once}");
    assert_eq!(once["state"]["network"], "stack");
    drop(load);
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!std::path::Path::new(socket).exists());
}

#[test]
fn top_is_watched_and_steered_in_a_terminal() {
    let lab = lab!("top");
    let socket = lab.dir().join("control.sock");
    let socket = socket.to_str().expect("the lab's folder is plain");
    let mut server = Serve::new(&lab).args(&["--control", socket]).start();
    let load = Load::start(lab.net(), Server::V4, "/users/7", 4);
    load.wait_for(100);

    let mut command = Command::new(bin::wirepath());
    command.args(["top", "--interval", "200ms", socket]);
    let mut top = Terminal::run(&command, (30, 100)).expect("a pty");
    top.wait_for("[0 overview]");
    top.wait_for("/users/{id}");
    top.wait_for("requests/s, at most");
    assert!(top.is_full_screen() && !top.has_cursor());

    top.press("1");
    top.wait_for("ESTAB");
    top.press("\r");
    top.wait_for("window   ");
    top.wait_for("rtt      estimated");
    top.press("\x1b");
    top.wait_for("send-q");
    top.press("\t");
    top.wait_for("[2 goroutines]");
    top.press("/accept\r");
    top.wait_for("filter: accept");
    top.wait_for(" accept ");
    top.press("?");
    top.wait_for("keys (any key: back)");
    top.resize((12, 60));
    top.press(" 4");
    top.wait_for("[4 ledger]");
    top.press("p");
    top.wait_for("PAUSED");
    top.press("p0");

    drop(load);
    server.daemon().signal(Signal::STOP);
    top.wait_for("waiting (q: quit): no answer for");
    server.daemon().signal(Signal::CONT);
    top.wait_for("?: help");
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
    top.wait_for("waiting (q: quit): the server");
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    assert!(!top.is_full_screen() && top.has_cursor());
}

#[test]
fn top_leaves_the_terminal_as_it_was_when_it_is_ended() {
    let lab = lab!("top-ended");
    let socket = lab.dir().join("control.sock");
    let socket = socket.to_str().expect("the lab's folder is plain");
    let _server = Serve::new(&lab).args(&["--control", socket]).start();
    let mut command = Command::new(bin::wirepath());
    command.args(["top", socket]);
    let mut top = Terminal::run(&command, (30, 100)).expect("a pty");
    top.wait_for("[0 overview]");
    top.signal(Signal::TERM);
    top.wait();
    assert!(!top.is_full_screen() && top.has_cursor());
}

#[test]
fn a_server_whose_threads_all_compute_still_answers() {
    let lab = lab!("control-stuck");
    let socket = lab.dir().join("control.sock");
    let socket = socket.to_str().expect("the lab's folder is plain");
    let args = ["--control", socket, "--maxprocs", "1"];
    let _server = Serve::new(&lab).args(&args).start();
    let url = format!("http://{}/spin?ms=2000", Server::V4);
    thread::scope(|scope| {
        let spinning = scope.spawn(|| curl(&lab, &[&url]));
        wait_until("a goroutine to compute", || {
            let counts = json(&ask(socket, &["goroutines", "--by", "reason", "--json"]));
            counts["running"].as_u64() >= Some(1) && !spinning.is_finished()
        });
        let reply = spinning.join().expect("curl ends");
        assert_eq!(reply.text(), "computed for 2000 ms\n");
    });
}
