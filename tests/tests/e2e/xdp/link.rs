//! An interface that goes down, comes back, or is gone.

use wirepath_tests::lab::SERVER_END;
use wirepath_tests::load::Load;
use wirepath_tests::{Lab, Serve, Server};

on_xdp! {
    down_and_up_under_load,
    a_deleted_interface_ends_the_server_with_an_error,
}

fn down_and_up_under_load(lab: &Lab) {
    let server = Serve::new(lab).without_capture().start();
    let mut idle = server.client();
    assert_eq!(idle.get("/").status, 200);
    let load = Load::start(lab.net(), Server::V4, "/big", 4);
    for _ in 0..3 {
        load.wait_for(5);
        for state in ["down", "up"] {
            let args = format!("link set {SERVER_END} {state}");
            lab.server_net().ip(&args);
        }
    }
    load.wait_for(5);
    drop(load);
    server.check_alive();
    assert_eq!(server.connect(Server::V6).unwrap().get("/").status, 200);
    // TCP does not notice a short outage.
    assert_eq!(idle.get("/").status, 200);
}

fn a_deleted_interface_ends_the_server_with_an_error(lab: &Lab) {
    let mut server = Serve::new(lab).without_capture().start();
    let _idle = server.client();
    server.check_alive();
    lab.server_net().ip(&format!("link del {SERVER_END}"));
    let (status, printed) = server.daemon().wait();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains(SERVER_END), "{printed}");
    assert!(printed.contains("gone"), "{printed}");
}
