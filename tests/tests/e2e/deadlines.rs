//! Clients that take too long.

use wirepath_tests::{Lab, Serve};

on_every_device! {
    a_head_that_never_ends_is_not_waited_for,
}

fn a_head_that_never_ends_is_not_waited_for(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut half = server.client();
    half.send("GET / HTTP/1.1\r\nHost: la");
    let mut silent = server.client();
    // Both are closed by the server (10 s unless set otherwise), which ends
    // the reading; a server without the deadline ends it with an error.
    for client in [&mut half, &mut silent] {
        let rest = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 408 "),
            "{rest}"
        );
    }
    server.check_alive();
}
