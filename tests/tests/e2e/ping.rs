//! ICMP echo, from the kernel's ping.

use wirepath_tests::{Lab, Serve};

on_every_device! {
    ping_is_answered_over_ipv4_and_ipv6,
}

fn ping_is_answered_over_ipv4_and_ipv6(lab: &Lab) {
    let _server = Serve::new(lab).start();
    for (family, to) in [("-4", "10.0.0.2"), ("-6", "fd00::2")] {
        for size in ["0", "56", "57", "1400"] {
            let args = [family, "-c", "5", "-i", "0.05", "-W", "10", "-s", size, to];
            let said = lab.run("ping", &args).ok().text();
            assert!(said.contains("5 received, 0% packet loss"), "{said}");
            // ping compares what comes back with what it sent.
            assert!(!said.contains("wrong data"), "{said}");
            assert!(!said.contains("DUP!"), "{said}");
        }
    }
}
