//! Frames as text.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use wirepath::see::state::{LedgerRow, Proc, Ring, Route};

use super::super::text_of;
use super::*;
use crate::top::feed::News;

fn state(seconds: u64, requests: u64) -> State {
    let flow = |n: u64| Flow {
        fd: n as u32,
        flow: n,
        local: "10.0.0.2:80".to_owned(),
        peer: format!("10.0.0.1:{}", 40_000 + n),
        state: "ESTABLISHED".to_owned(),
        bytes_in: requests * n,
        estimated_rtt_us: Some(120),
        ..Flow::default()
    };
    State {
        pid: 7,
        at_ns: seconds * 1_000_000_000,
        network: "stack".to_owned(),
        http: [("requests".to_owned(), requests)].into(),
        queues: vec![Queue {
            name: "tap wp0 queue 0".to_owned(),
            rx_frames: requests * 3,
            drops: [("checksum".to_owned(), 4)].into(),
            rings: vec![Ring {
                name: "rx".to_owned(),
                len: 100,
                used: 50,
            }],
            pool_frames: 100,
            pool_free: 99,
            ..Queue::default()
        }],
        procs: vec![Proc {
            m: Some(3),
            queue: 2,
            ..Proc::default()
        }],
        routes: vec![Route {
            pattern: "GET /users/{id}".to_owned(),
            count: requests,
            p99_us: 1500,
            ..Route::default()
        }],
        flows: vec![flow(3), flow(5)],
        flows_total: 2,
        goroutines: vec![Goroutine {
            g: 17,
            state: "IO wait".to_owned(),
            site: "a.rs:1".to_owned(),
            ..Goroutine::default()
        }],
        goroutines_total: 1,
        by_reason: [("IO wait".to_owned(), 1)].into(),
        ledger: vec![LedgerRow {
            place: "stack.rx".to_owned(),
            total: 9,
            parts: vec![("tcp".to_owned(), 9)],
            unaccounted: 0,
        }],
        ..State::default()
    }
}

fn app() -> App {
    let mut app = App::new(false);
    app.take(state(1, 0));
    app.take(state(2, 500));
    app
}

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            c => KeyCode::Char(c),
        };
        app.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

#[track_caller]
fn has(app: &mut App, wanted: &[&str]) {
    let text = text_of(app, (80, 24));
    for words in wanted {
        assert!(text.contains(words), "no «{words}» in\n{text}");
    }
}

#[test]
fn the_overview_has_rates_bars_and_drops() {
    has(
        &mut app(),
        &[
            "500 requests/s",
            "1500 frames/s",
            "rx [#####.....] 50/100",
            "pool [#.........] 1/100",
            "checksum 4",
            "P0   M3    queue 2",
            "1 IO wait",
            "GET /users/{id}",
            "1.5ms",
        ],
    );
}

#[test]
fn keys_show_the_tabs() {
    let mut app = app();
    press(&mut app, "1");
    has(&mut app, &["[1 flows]", "10.0.0.1:40003", "120µs", "2500"]);
    press(&mut app, "\t");
    has(&mut app, &["[2 goroutines]", "17", "a.rs:1"]);
    press(&mut app, "\n");
    has(&mut app, &["goroutine 17 [IO wait]", "by a plain thread"]);
    press(&mut app, "4");
    has(&mut app, &["stack.rx", "tcp 9"]);
    press(&mut app, "5");
    has(&mut app, &["--recorder off"]);
    press(&mut app, "?");
    has(&mut app, &["sort by the next column"]);
    press(&mut app, "xq");
    assert!(app.is_done);
}

#[test]
fn a_filter_and_a_selection_choose_one_flow() {
    let mut app = app();
    press(&mut app, "1/40003\n");
    let text = text_of(&mut app, (80, 24));
    assert!(
        text.contains("10.0.0.1:40003") && !text.contains("10.0.0.1:40005"),
        "{text}"
    );
    press(&mut app, "\u{1b}jjjj\n");
    // The busiest is first, so the last is the other.
    has(&mut app, &["fd 3", "estimated 120µs"]);
}

#[test]
fn a_server_that_ended_is_said_so_and_pausing_keeps_the_state() {
    let mut app = app();
    app.hear(News::Lost("the server has ended".to_owned()));
    has(&mut app, &["waiting (q: quit): the server has ended"]);
    press(&mut app, "p");
    app.hear(News::State(Box::new(state(3, 9_000))));
    assert_eq!(app.state.as_ref().unwrap().http["requests"], 500);
    press(&mut app, "p");
    app.hear(News::State(Box::new(state(3, 9_000))));
    has(&mut app, &["8500 requests/s"]);
}

#[test]
fn no_size_is_too_small_and_nothing_is_no_state() {
    for size in [(1, 1), (10, 3), (20, 5), (80, 24), (300, 100)] {
        for tab in "012345".chars() {
            let mut app = app();
            press(&mut app, &tab.to_string());
            text_of(&mut app, size);
            text_of(&mut App::new(true), size);
        }
    }
}
