//! What one thing that is otherwise changes in the judgement of a machine that
//! is fit.

use super::super::facts::{Facts, Link, Master, Mode, Peer, Program, Rings, RxQueue, SocketTrial};
use super::super::judge::{Finding, Severity, judge};
use super::{facts, interface, plan};
use Severity::{Note, Problem, Warning};

/// What one thing that is otherwise changes in the judgement of `ice`, for a
/// plan.
pub type Change = fn(&mut Facts);
pub const CHANGES: &[(&str, Change, &str, &str, Severity)] = &[
    (
        "no XDP in the build",
        |f| f.build.has_xdp = false,
        "",
        "build",
        Problem,
    ),
    (
        "an ancient kernel",
        |f| f.machine.kernel = Some("5.4.0-216".into()),
        "",
        "kernel",
        Problem,
    ),
    (
        "a kernel without AF_XDP",
        |f| f.machine.socket = Some(SocketTrial::NotInKernel),
        "",
        "af-xdp",
        Problem,
    ),
    (
        "no BTF",
        |f| f.machine.has_btf = Some(false),
        "",
        "btf",
        Note,
    ),
    (
        "no JIT",
        |f| f.machine.bpf_jit = Some(0),
        "",
        "jit",
        Warning,
    ),
    (
        "BPF for all",
        |f| f.machine.unprivileged_bpf_disabled = Some(0),
        "",
        "unprivileged-bpf",
        Note,
    ),
    (
        "a user namespace",
        |f| f.machine.process.in_first_user_namespace = Some(false),
        "",
        "user-namespace",
        Problem,
    ),
    (
        "one capability less",
        |f| f.machine.process.capabilities = Some(!(1 << 13)),
        "",
        "capabilities",
        Problem,
    ),
    (
        "no right to low ports",
        |f| f.machine.process.capabilities = Some(!(1 << 10)),
        "--share-host --ports 80",
        "capabilities",
        Problem,
    ),
    (
        "a user with few rights",
        |f| f.machine.process.capabilities = Some(1 << 12 | 1 << 13 | 3 << 38),
        "",
        "memlock",
        Problem,
    ),
    (
        "a link that is down",
        |f| link(f).is_up = false,
        "",
        "link",
        Problem,
    ),
    (
        "no carrier",
        |f| link(f).has_carrier = false,
        "",
        "link",
        Warning,
    ),
    (
        "not Ethernet",
        |f| link(f).mac = None,
        "",
        "link-layer",
        Problem,
    ),
    (
        "another's program",
        |f| {
            link(f).programs = vec![Program {
                id: 7,
                mode: Mode::Driver,
            }];
        },
        "",
        "program",
        Problem,
    ),
    (
        "a bond's program above",
        |f| interface(f).master = Some(master("bond", 9)),
        "",
        "master",
        Problem,
    ),
    (
        "a bridge above",
        |f| interface(f).master = Some(master("bridge", 0)),
        "",
        "master",
        Warning,
    ),
    (
        "a VLAN interface",
        |f| link(f).kind = Some("vlan".into()),
        "",
        "vlan-interface",
        Note,
    ),
    (
        "a bond",
        |f| link(f).kind = Some("bond".into()),
        "",
        "bond",
        Warning,
    ),
    (
        "a socket on queue 2",
        |f| queue(f, 2).has_xsk = true,
        "",
        "queue-taken",
        Problem,
    ),
    (
        "more queues than processors",
        |f| f.machine.cpus = vec![0, 1],
        "",
        "processors",
        Warning,
    ),
    (
        "a short ring",
        |f| {
            interface(f).rings = Some(Rings {
                rx: 64,
                rx_max: 4096,
                tx: 64,
                tx_max: 4096,
            });
        },
        "",
        "rings",
        Note,
    ),
    (
        "interrupts put off",
        |f| (interface(f).defer_hard_irqs, interface(f).gro_flush_timeout) = (Some(2), Some(9)),
        "",
        "busy-poll",
        Note,
    ),
    ("LRO", |f| turn_on(f, "rx-lro"), "", "lro", Warning),
    (
        "hardware GRO",
        |f| turn_on(f, "rx-gro-hw"),
        "",
        "gro-hw",
        Warning,
    ),
    (
        "checksums kept",
        |f| turn_on(f, "rx-fcs"),
        "",
        "rx-fcs",
        Warning,
    ),
    (
        "VLAN tags taken off",
        |f| turn_on(f, "rx-vlan-hw-parse"),
        "",
        "rx-vlan",
        Note,
    ),
    (
        "a legacy ring",
        |f| legacy_rx(f),
        "--attach driver --frame-len 4096",
        "native-mtu",
        Problem,
    ),
    (
        "a large MTU",
        |f| link(f).mtu = 1775,
        "--frame-len 2048",
        "mtu",
        Problem,
    ),
    (
        "no zero-copy",
        |f| interface(f).xdp.as_mut().unwrap().zero_copy = false,
        "",
        "zero-copy",
        Note,
    ),
    (
        "no driver to be seen",
        |f| interface(f).driver = None,
        "",
        "driver",
        Note,
    ),
    (
        "a node that does not show",
        |f| _ = f.machine.nodes.insert(1, vec![]),
        "",
        "numa",
        Note,
    ),
    (
        "a taken address",
        |f| f.addresses[1].interface = "lo".into(),
        "--addr 198.51.100.8/24",
        "address",
        Problem,
    ),
    (
        "a peer out of sight",
        |f| interface(f).peer = Some(Peer::default()),
        "",
        "peer-checksum",
        Warning,
    ),
    (
        "a peer with many queues",
        |f| {
            interface(f).peer = Some(Peer {
                tx_queues: Some(9),
                ..Peer::default()
            });
        },
        "",
        "veth-queues",
        Warning,
    ),
];

fn link(facts: &mut Facts) -> &mut Link {
    &mut interface(facts).link
}

fn queue(facts: &mut Facts, id: usize) -> &mut RxQueue {
    &mut interface(facts).rx_queues.as_mut().unwrap()[id]
}

fn turn_on(facts: &mut Facts, feature: &str) {
    let features = interface(facts).features.as_mut().unwrap();
    features.get_mut(feature).unwrap().on = true;
}

fn legacy_rx(facts: &mut Facts) {
    link(facts).mtu = 1700;
    let flags = interface(facts).private_flags.as_mut().unwrap();
    flags.insert("legacy-rx".into(), true);
}

fn master(kind: &str, program: u32) -> Master {
    let programs = [program].into_iter().filter(|id| *id > 0);
    Master {
        name: "above".into(),
        kind: Some(kind.into()),
        programs: programs
            .map(|id| Program {
                id,
                mode: Mode::Generic,
            })
            .collect(),
    }
}

#[test]
fn what_one_change_makes_of_a_machine_that_is_fit() {
    for (what, change, options, id, severity) in CHANGES {
        let mut facts = facts("ice");
        let options = plan(options);
        let before = severity_of(&judge(&facts, &options), id);
        // An address that the host has is taken on whichever interface.
        assert!(
            before <= Some(Severity::Ok) || *id == "address",
            "{what}: {before:?} before"
        );
        change(&mut facts);
        let found = judge(&facts, &options);
        assert_eq!(severity_of(&found, id), Some(*severity), "{what}");
    }
}

fn severity_of(findings: &[Finding], id: &str) -> Option<Severity> {
    findings
        .iter()
        .filter(|f| f.id == id)
        .map(|f| f.severity)
        .max()
}
