//! What these tests look with, itself looked at, without a server.

use wirepath_tests::Lab;
use wirepath_tests::bpf::{Objects, attach_another, attached};
use wirepath_tests::echo::{Echo, Session};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::wait::wait_until;

on_xdp! {
    a_program_is_seen_until_it_is_gone_and_a_session_goes_on,
}

fn a_program_is_seen_until_it_is_gone_and_a_session_goes_on(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("addr add 10.0.0.9/24 dev {SERVER_END}"));
    let service = Echo::start(net, "10.0.0.9:22").unwrap();
    let session = Session::open(lab.net(), "10.0.0.9:22").unwrap();
    assert_eq!(attached(net, SERVER_END), None);
    let program = attach_another(lab);
    assert_eq!((program.name.as_str(), program.mode), ("another", "driver"));
    let objects = Objects::of_program(program.id);
    assert_eq!(objects.living(), objects);
    assert_eq!(objects.programs.len(), 1);
    session.check_goes_on();
    net.ip(&format!("link set dev {SERVER_END} xdp off"));
    wait_until("the program is gone", || {
        objects.living() == Objects::default()
    });
    session.check_goes_on();
    drop(service);
    wait_until("the session breaks", || session.is_broken());
}
