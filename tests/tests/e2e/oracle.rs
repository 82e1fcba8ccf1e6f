//! Recorded conversations, over a stack instead of the kernel's sockets.

use wirepath_tests::oracle::{Vector, play, vector};
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    recorded_conversations_come_out_the_same,
}

/// Every so many of a file's conversations are had here; all are over the
/// kernel's sockets.
const EVERY: usize = 12;

fn recorded_conversations_come_out_the_same(lab: &Lab) {
    let server = Serve::new(lab).without_capture();
    let server = server.program(env!("CARGO_BIN_EXE_wirepath-conformance"));
    let server = server.args(&["--catchall"]).start();
    for file in ["wire", "malformed", "smuggling"] {
        let vectors = vector::read(file);
        for vector in vectors.iter().step_by(EVERY) {
            check(lab, vector);
        }
    }
    drop(server);
}

fn check(lab: &Lab, vector: &Vector) {
    let to = Server::V4.parse().expect("a literal address");
    let stream = lab.net().connect(to).expect("the server accepts");
    let outcome = play::play(vector, stream).expect("the client's socket works");
    assert_eq!(outcome, *vector.expected(), "{}", vector.id);
}
