//! The page `/debug/wirepath/`, in a real browser through a TAP.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
#[cfg(feature = "xdp")]
use wirepath_tests::Lab;
use wirepath_tests::browser::Browser;
use wirepath_tests::{Serve, Server};

use crate::curl::curl;

/// Says what is wrong with how the page looks.
const LOOK: &str = include_str!("page/look.js");

/// A PNG of a page is longer than this; one of nothing is not.
const LEAST_PNG_BYTES: usize = 20_000;

fn url(path: &str) -> String {
    format!("http://{}{path}", Server::V4)
}

/// Fails if the console told of anything.
#[track_caller]
fn check_console(browser: &mut Browser) {
    let troubles = browser.troubles();
    assert!(troubles.is_empty(), "{troubles:#?}");
}

/// Runs `f` while a client asks for page after page.
fn while_requests_flow(server: &Server<'_>, f: impl FnOnce()) {
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client();
            while !enough.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").status, 200);
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        enough.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn the_drawing_moves_while_requests_flow() {
    let lab = lab!("page_moves");
    let Some(mut browser) = Browser::start(&lab) else {
        return;
    };
    let server = Serve::new(&lab).without_capture().start();
    browser.prefer("light", false);
    browser.resize(1366, 900);
    browser.open(&url("/debug/wirepath/"));
    browser.wait_until("document.getElementById('status').dataset.is === 'live'");
    let handler = "document.querySelector('[data-stage=\"14\"]').lastElementChild.textContent";
    while_requests_flow(&server, || {
        browser.wait_until(&format!("{handler}.endsWith('requests/s')"));
        browser.wait_until(&format!("parseFloat({handler}) > 2"));
        browser.wait_until("document.querySelector('circle.bead[transform]') !== null");
        // One bead is seen in two places.
        browser.eval(
            "window.bead = document.querySelector('circle.bead[transform]'); \
             window.was = bead.getAttribute('transform'); 0",
        );
        browser.wait_until(
            "(bead.isConnected || (bead = document.querySelector('circle.bead[transform]'), \
             was = bead?.getAttribute('transform'), false)) && \
             bead.getAttribute('transform') !== was",
        );
        browser.wait_until("document.querySelectorAll('#procs tbody tr td').length > 1");
        browser.wait_until("document.getElementById('flows').textContent.includes('10.0.0.1:')");
        browser.wait_until("document.querySelectorAll('#stages tbody tr').length === 14");
        let png = browser.screenshot(&lab.dir().join("light.png"));
        assert!(png.len() > LEAST_PNG_BYTES, "{}", png.len());
    });
    check_console(&mut browser);
}

#[test]
fn the_tour_explains_each_stage_and_follows_a_request() {
    let lab = lab!("page_tour");
    let Some(mut browser) = Browser::start(&lab) else {
        return;
    };
    let _server = Serve::new(&lab).without_capture().start();
    browser.prefer("dark", false);
    browser.resize(1366, 900);
    browser.open(&url("/debug/wirepath/#fd.ready"));
    assert!(browser.text("guide-title").starts_with("5 fd.ready: "));
    assert!(browser.text("guide-texts").contains("sock_def_readable"));
    browser.click("guide-next");
    assert!(browser.text("guide-title").starts_with("6 g.ready: "));
    assert_eq!(browser.eval("location.hash"), "#g.ready");
    for key in ["ArrowRight", "ArrowRight", "ArrowRight"] {
        let press = format!("dispatchEvent(new KeyboardEvent('keydown', {{key: {key:?}}}))");
        browser.eval(&press);
    }
    assert!(
        browser.text("guide-title").starts_with("14 http.handler: "),
        "the handler stands between the read and the write"
    );
    assert!(browser.text("guide-live").contains("Step 9 of 14"));

    browser.click("guide-send");
    browser.wait_until("document.getElementById('sent').textContent.includes('on the path')");
    let sent = browser.text("sent");
    assert!(
        sent.contains("was answered with 200 by goroutine "),
        "{sent}"
    );
    browser.wait_until("document.getElementById('guide-time').textContent.startsWith('Your')");
    let png = browser.screenshot(&lab.dir().join("tour.png"));
    assert!(png.len() > LEAST_PNG_BYTES, "{}", png.len());
    browser.wait_until("document.querySelector('#requests .mine') !== null");
    browser.click("guide-close");
    assert_eq!(
        browser.eval("document.getElementById('guide').hidden"),
        true
    );
    check_console(&mut browser);
}

#[test]
fn the_page_is_readable_in_light_and_dark_and_on_a_phone() {
    let lab = lab!("page_look");
    let Some(mut browser) = Browser::start(&lab) else {
        return;
    };
    let server = Serve::new(&lab).without_capture().start();
    assert_eq!(server.get("/users/ada").status, 200);
    for (scheme, width) in [
        ("light", 1366),
        ("dark", 1366),
        ("light", 360),
        ("dark", 360),
    ] {
        for part in ["", "#http.handler"] {
            browser.prefer(scheme, true);
            browser.resize(width, 800);
            browser.open(&url(&format!("/debug/wirepath/{part}")));
            browser.wait_until("document.querySelectorAll('#stages tbody tr').length === 14");
            let look = browser.eval(LOOK);
            let at = format!("{scheme}, {width} wide, {part}: {look:#}");
            assert!(look["texts"].as_u64() > Some(60), "{at}");
            assert_eq!(look["faint"], Value::Array(vec![]), "{at}");
            assert_eq!(look["wide"], Value::Array(vec![]), "{at}");
            assert_eq!(look["overflow"], 0, "{at}");
            assert_eq!(browser.nameless(), [""; 0], "{at}");
            let file = format!("{scheme}-{width}{}.png", part.replace('#', "-"));
            let png = browser.screenshot(&lab.dir().join(file));
            assert!(png.len() > LEAST_PNG_BYTES, "{at}: {}", png.len());
        }
    }
    assert_eq!(browser.eval("document.querySelectorAll('.bead').length"), 0);
    check_console(&mut browser);
}

#[test]
fn a_page_that_nobody_looks_at_asks_for_nothing() {
    let lab = lab!("page_hidden");
    let Some(mut browser) = Browser::start(&lab) else {
        return;
    };
    let server = Serve::new(&lab).without_capture().start();
    browser.open(&url("/debug/wirepath/"));
    browser.wait_until("document.getElementById('status').dataset.is === 'live'");
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}}); \
             document.dispatchEvent(new Event('visibilitychange')); 0"
        )
    };
    browser.eval(&hide(true));
    assert_eq!(browser.text("status-text"), "paused while nobody looks");
    // The stream's goroutine ends: what is left are requests for the counters.
    wirepath_tests::wait::wait_until("the stream to end", || {
        let dump = server.get("/debug/goroutines");
        let dump = String::from_utf8_lossy(&dump.body).into_owned();
        !dump.contains("[select")
    });
    browser.eval(&hide(false));
    browser.wait_until("document.getElementById('status').dataset.is === 'live'");
    check_console(&mut browser);
}

#[cfg(feature = "xdp")]
on_xdp! { a_card_shows_the_page_when_asked }

#[cfg(feature = "xdp")]
fn a_card_shows_the_page_when_asked(lab: &Lab) {
    for (args, status) in [(&[][..], 404), (&["--debug-page"][..], 200)] {
        let server = Serve::new(lab).without_capture().args(args).start();
        assert_eq!(server.get("/debug/wirepath/").status, status, "{args:?}");
        assert_eq!(server.get("/debug/wirepath/counters").status, 200);
    }
}

#[test]
fn the_page_is_for_who_may_see_it() {
    let lab = lab!("page_guard");
    for (args, status) in [
        (&["--no-debug-page"][..], 404),
        (&["--metrics", "--debug-from", "192.0.2.0/24"], 403),
        (&["--metrics", "--debug-from", "10.0.0.1/32"], 200),
    ] {
        let _server = Serve::new(&lab).without_capture().args(args).start();
        for path in ["/debug/wirepath/", "/metrics"] {
            let reply = curl(&lab, &[&url(path)]);
            assert_eq!(reply.status, status, "{path} {args:?}");
        }
    }
}
