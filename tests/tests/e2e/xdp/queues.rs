//! A shard for each queue.

use serde_json::Value;
use wirepath_tests::echo::{Echo, Session};
use wirepath_tests::http::request;
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::{Device, Lab, Serve, Server};

on_xdp! {
    queues 2:
    both_queues_carry_traffic_and_flows_stay_on_theirs,
    one_queue_of_two_leaves_the_other_to_the_kernel,
}

/// Frames that each queue took.
fn received(counters: &Value) -> Vec<u64> {
    let queues = counters["queues"].as_array().expect("a list of queues");
    let frames = |queue: &Value| queue["rx_frames"].as_u64();
    queues
        .iter()
        .map(|queue| frames(queue).unwrap_or_else(|| panic!("no rx_frames in {queue:#}")))
        .collect()
}

fn both_queues_carry_traffic_and_flows_stay_on_theirs(lab: &Lab) {
    const REQUESTS: usize = 50;
    let server = Serve::new(lab).args(&["--queues", "0-1"]).start();
    // Each shard finds out for itself whether its IPv6 address is its own, and
    // is silent until then; a client that tries again may choose another queue.
    let _early: Vec<_> = (0..8).map(|_| server.connect(Server::V6)).collect();
    let before = server.counter("handed_over");
    let mut clients: Vec<_> = (0..32)
        .map(|n| {
            let to = [Server::V4, Server::V6][n % 2];
            server.connect(to).unwrap()
        })
        .collect();
    for _ in 0..REQUESTS {
        for client in &mut clients {
            client.send(request("GET", "/"));
        }
        for client in &mut clients {
            assert_eq!(client.reply().unwrap().status, 200);
        }
    }
    let counters = server.counters();
    let frames = received(&counters);
    assert_eq!(frames.len(), 2, "{counters:#}");
    let served: u64 = frames.iter().sum();
    assert!(served > 32 * REQUESTS as u64, "{frames:?}");
    // With 32 flows, chance leaves a queue without one once in 2^31 runs. The
    // network core, where the generic program runs, is not told of veth's
    // queues, and takes all to be of the first.
    if lab.device() == Device::XdpNative {
        assert!(frames.iter().all(|n| *n > REQUESTS as u64), "{frames:?}");
    }
    let handed_over = server.counter("handed_over") - before;
    assert_eq!(handed_over, 0, "flows stay on theirs");
}

/// What arrives for the server on a queue that it does not have goes to the
/// kernel, and the kernel's own flows go on whichever queue they take.
fn one_queue_of_two_leaves_the_other_to_the_kernel(lab: &Lab) {
    const HOST: &str = "10.0.0.9:22";
    let net = lab.server_net();
    net.ip(&format!("addr add 10.0.0.9/24 dev {SERVER_END}"));
    let _service = Echo::start(net, HOST).unwrap();
    let mut server = Serve::new(lab).args(&["--queues", "1-1"]).begin();
    server.wait_for("listening on");
    let sessions: Vec<_> = (0..16)
        .map(|_| Session::open(lab.net(), HOST).unwrap())
        .collect();
    for session in &sessions {
        session.check_goes_on();
    }
    assert_eq!(server.ended(), None, "{}", server.output());
}
