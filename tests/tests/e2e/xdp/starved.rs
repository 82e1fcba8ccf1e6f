//! Rings and pools so small that they run full and empty all the time.

use std::io::Write;

use wirepath_tests::http::{Client, post_head};
use wirepath_tests::load::Load;
use wirepath_tests::pattern::{self, Check};
use wirepath_tests::{Lab, Serve, Server};

on_xdp! {
    tiny_rings_recover_and_lose_no_byte,
}

fn tiny_rings_recover_and_lose_no_byte(lab: &Lab) {
    let server = Serve::new(lab)
        .without_capture()
        .args(&["--frames", "256", "--ring-len", "64"])
        .start();
    let load = Load::start(lab.net(), Server::V4, "/big", 4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = server.client();
            scope.spawn(|| check_echo(client, 4 << 20));
        }
    });
    load.wait_for(20);
    drop(load);
    server.check_alive();
}

/// Sends a body and checks that it comes back.
#[track_caller]
fn check_echo(mut client: Client, length: u64) {
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let head = post_head("/echo", length);
            writer.write_all(head.as_bytes()).unwrap();
            pattern::send(length, &mut writer).unwrap();
        });
        let reply = client.head().unwrap();
        assert_eq!(reply.status, 200);
        let mut check = Check::default();
        client.body(&reply, &mut check).unwrap();
        assert_eq!(check.seen(), length);
    });
    assert_eq!(client.get("/").status, 200);
}
