//! What is found on whole machines, each for several plans.

use super::super::judge::{Severity, judge};
use super::{facts, not_ok, plan};
use Severity::{Note, Problem, Warning};

/// What is found, but for what is ok.
type Found = &'static [(&'static str, Severity)];

/// Machines as the fixtures have them, each judged for a plan.
pub const MACHINES: &[(&str, &str, Found)] = &[
    ("ice", "", &[("native", Note)]),
    (
        "ice",
        "--bind zerocopy --queues 0-7 --addr 198.51.100.9/24",
        &[("native", Note)],
    ),
    ("ice", "--queues 0-3", &[("native", Note), ("rss", Warning)]),
    (
        "ice",
        "--queues 4-11",
        &[("native", Note), ("channels", Problem)],
    ),
    (
        "ice",
        "--frames 2048",
        &[("native", Note), ("frames", Warning)],
    ),
    ("ice", "--huge-pages", &[("native", Note)]),
    (
        "ice",
        "--huge-pages --frames 131072",
        &[("huge-pages", Problem), ("native", Note)],
    ),
    (
        "ice",
        "--busy-poll 20",
        &[("native", Note), ("busy-poll", Warning)],
    ),
    (
        "ice",
        "--addr 198.51.100.8/24",
        &[("native", Note), ("address", Problem)],
    ),
    ("ice", "--share-host --ports 80,443", &[("native", Note)]),
    (
        "ice",
        "--share-host --ports 20-30",
        &[("native", Note), ("ports", Problem)],
    ),
    ("ice", "--attach generic", &[]),
    (
        "ice",
        "--attach generic --bind zerocopy",
        &[("zero-copy", Problem)],
    ),
    (
        "i40e",
        "",
        &[
            ("native", Note),
            ("native-mtu", Warning),
            ("numa", Note),
            ("irqbalance", Note),
            ("mtu", Problem),
            ("rx-vlan", Warning),
        ],
    ),
    (
        "i40e",
        "--attach driver --frame-len 2048",
        &[
            ("native", Note),
            ("native-mtu", Problem),
            ("numa", Note),
            ("irqbalance", Note),
            ("mtu", Problem),
            ("rx-vlan", Warning),
        ],
    ),
    (
        "ixgbe",
        "",
        &[
            ("kernel", Warning),
            ("master", Warning),
            ("native", Note),
            ("sr-iov", Warning),
            ("lro", Warning),
            ("rx-vlan", Note),
        ],
    ),
    (
        "ixgbe",
        "--attach driver --share-host",
        &[
            ("kernel", Warning),
            ("master", Warning),
            ("native", Note),
            ("sr-iov", Problem),
            ("lro", Problem),
            ("rx-vlan", Note),
            ("address", Problem),
        ],
    ),
    (
        "mlx5_core",
        "",
        &[
            ("native", Warning),
            ("lro", Warning),
            ("numa", Note),
            ("interrupts", Warning),
            ("rx-vlan", Note),
        ],
    ),
    (
        "mlx5_core",
        "--attach driver --bind zerocopy",
        &[
            ("zero-copy", Problem),
            ("native", Problem),
            ("lro", Problem),
            ("numa", Note),
            ("interrupts", Warning),
            ("rx-vlan", Note),
        ],
    ),
    (
        "ena",
        "",
        &[
            ("native", Warning),
            ("ena-channels", Warning),
            ("mtu", Problem),
        ],
    ),
    (
        "ena",
        "--attach driver",
        &[
            ("native", Problem),
            ("ena-channels", Problem),
            ("mtu", Problem),
        ],
    ),
    ("virtio_net", "", &[("zero-copy", Note), ("gro-hw", Note)]),
    (
        "virtio_net",
        "--bind copy --share-host",
        &[("gro-hw", Note), ("ports", Problem)],
    ),
    (
        "virtio_net",
        "--attach generic --queues 0",
        &[("gro-hw", Note), ("rss", Warning), ("rx-checksum", Warning)],
    ),
    (
        "virtio_net-firecracker",
        "",
        &[
            ("zero-copy", Note),
            ("gro-hw", Warning),
            ("rx-checksum", Warning),
        ],
    ),
    (
        "virtio_net-firecracker",
        "--attach driver",
        &[("zero-copy", Note), ("gro-hw", Problem)],
    ),
    (
        "veth",
        "",
        &[("zero-copy", Note), ("peer-checksum", Problem)],
    ),
    (
        "veth",
        "--bind zerocopy",
        &[("zero-copy", Problem), ("peer-checksum", Problem)],
    ),
    (
        "veth",
        "--attach generic --addr 10.0.0.1/24",
        &[("peer-checksum", Problem), ("address", Problem)],
    ),
    (
        "veth",
        "--share-host",
        &[
            ("zero-copy", Note),
            ("peer-checksum", Problem),
            ("address", Problem),
        ],
    ),
    (
        "veth",
        "--queues 0-1",
        &[
            ("zero-copy", Note),
            ("channels", Problem),
            ("peer-checksum", Problem),
        ],
    ),
    (
        "plain",
        "",
        &[
            ("af-xdp", Problem),
            ("capabilities", Problem),
            ("native", Warning),
            ("rx-vlan", Note),
        ],
    ),
];

#[test]
fn what_is_found_on_each_machine() {
    for (name, options, want) in MACHINES {
        let found = judge(&facts(name), &plan(options));
        assert_eq!(not_ok(&found), *want, "{name} {options}");
    }
}
