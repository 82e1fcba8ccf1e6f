//! Another program on the interface is never replaced.

use wirepath_tests::bpf::{attach_another, attached};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::{Lab, Serve};

on_xdp! {
    queues 2:
    a_program_of_somebody_else_stays,
    a_second_server_is_refused_and_the_first_goes_on,
}

fn a_program_of_somebody_else_stays(lab: &Lab) {
    let another = attach_another(lab);
    let refused = Serve::new(lab).run();
    assert!(!refused.status.success(), "{refused}");
    let id = another.id.to_string();
    for said in [SERVER_END, "another", &id, "link set", "xdp"] {
        assert!(refused.stderr.contains(said), "{said}: {refused}");
    }
    let now = attached(lab.server_net(), SERVER_END);
    assert_eq!(now, Some(another));
    // What the message told to do.
    lab.server_net()
        .ip(&format!("link set dev {SERVER_END} xdp off"));
    Serve::new(lab).start().check_alive();
}

fn a_second_server_is_refused_and_the_first_goes_on(lab: &Lab) {
    let mut server = Serve::new(lab).args(&["--queues", "0-0"]).start();
    let first = attached(lab.server_net(), SERVER_END).unwrap();
    let refuse = |queue: &str, words: &[&str]| {
        let second = Serve::new(lab).without_capture();
        let refused = second.args(&["--queues", queue]).run();
        assert_eq!(refused.status.code(), Some(2), "{refused}");
        for said in words {
            assert!(refused.stderr.contains(said), "{said}: {refused}");
        }
    };
    let (id, pid) = (first.id.to_string(), server.daemon().pid().to_string());
    refuse("0-0", &["queue 0", SERVER_END, &first.name, &id, &pid]);
    refuse("1-1", &[SERVER_END, &first.name, &id, &pid, "link"]);
    assert_eq!(attached(lab.server_net(), SERVER_END), Some(first));
    server.check_alive();
}
