//! Machines, plans, and what is to be found in each.
//!
//! The facts in `fixtures` were recorded on real machines for `veth` and
//! `virtio_net-firecracker`; the others were put together from what is publicly
//! known of the drivers.

use clap::Parser;

use super::facts::{
    Facts, Interface, Link, Master, Mode, Peer, Program, Rings, RxQueue, SocketTrial,
};
use super::judge::{Finding, Severity, judge};
use super::plan::{BusyPoll, Plan, PlanOptions};
use super::report::{Report, shell};
use Severity::{Note, Problem, Warning};

macro_rules! fixture {
    ($file:literal) => {
        ($file, include_str!(concat!("fixtures/", $file)))
    };
}

const FIXTURES: [(&str, &str); 9] = [
    fixture!("ena.json"),
    fixture!("i40e.json"),
    fixture!("ice.json"),
    fixture!("ixgbe.json"),
    fixture!("mlx5_core.json"),
    fixture!("plain.json"),
    fixture!("veth.json"),
    fixture!("virtio_net-firecracker.json"),
    fixture!("virtio_net.json"),
];

#[derive(Parser)]
struct Planned {
    #[command(flatten)]
    options: PlanOptions,
}

/// The plan that these options of the command line mean.
#[track_caller]
fn plan(options: &str) -> Plan {
    let words = std::iter::once("doctor").chain(options.split_whitespace());
    let planned = Planned::try_parse_from(words).unwrap_or_else(|err| panic!("{options}: {err}"));
    Plan::from(&planned.options)
}

/// The facts of `fixtures/NAME.json`.
#[track_caller]
fn facts(name: &str) -> Facts {
    let file = format!("{name}.json");
    let found = FIXTURES.iter().find(|(fixture, _)| *fixture == file);
    let (_, text) = found.unwrap_or_else(|| panic!("no fixture {file}"));
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{file}: {err}"))
}

/// What is to be known or worse, in the order of the report.
fn not_ok(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    let bad = findings.iter().filter(|f| f.severity > Severity::Ok);
    bad.map(|f| (f.id, f.severity)).collect()
}

/// Machines as the fixtures have them, each judged for a plan.
const MACHINES: &[(&str, &str, &[(&str, Severity)])] = &[
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
    ("ice", "--attach generic", &[("gro", Warning)]),
    (
        "ice",
        "--attach generic --bind zerocopy",
        &[("zero-copy", Problem), ("gro", Warning)],
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
            ("gro", Note),
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
            ("gro", Note),
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
            ("gro", Note),
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
            ("gro", Note),
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
        &[
            ("gro-hw", Note),
            ("rss", Warning),
            ("gro", Warning),
            ("rx-checksum", Warning),
        ],
    ),
    (
        "virtio_net-firecracker",
        "",
        &[
            ("zero-copy", Note),
            ("gro-hw", Warning),
            ("gro", Note),
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
            ("gro", Warning),
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

/// What one thing that is otherwise changes in the judgement of `ice`, for a
/// plan.
type Change = fn(&mut Facts);
const CHANGES: &[(&str, Change, &str, &str, Severity)] = &[
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
        "a user with few rights",
        |f| f.machine.process.capabilities = Some(1 << 12 | 1 << 13 | 1 << 39),
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
            }]
        },
        "",
        "program",
        Problem,
    ),
    (
        "a bond's program above",
        |f| ice(f).master = Some(master("bond", 9)),
        "",
        "master",
        Problem,
    ),
    (
        "a bridge above",
        |f| ice(f).master = Some(master("bridge", 0)),
        "",
        "master",
        Warning,
    ),
    (
        "a VLAN interface",
        |f| link(f).kind = Some("vlan".into()),
        "",
        "vlan-interface",
        Warning,
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
            ice(f).rings = Some(Rings {
                rx: 64,
                rx_max: 4096,
                tx: 64,
                tx_max: 4096,
            })
        },
        "",
        "rings",
        Note,
    ),
    (
        "interrupts put off",
        |f| (ice(f).defer_hard_irqs, ice(f).gro_flush_timeout) = (Some(2), Some(9)),
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
        |f| ice(f).xdp.as_mut().unwrap().zero_copy = false,
        "",
        "zero-copy",
        Note,
    ),
    (
        "no driver to be seen",
        |f| ice(f).driver = None,
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
        |f| ice(f).peer = Some(Peer::default()),
        "",
        "peer-checksum",
        Warning,
    ),
    (
        "a peer with many queues",
        |f| {
            ice(f).peer = Some(Peer {
                tx_queues: Some(9),
                ..Peer::default()
            })
        },
        "",
        "veth-queues",
        Warning,
    ),
];

fn ice(facts: &mut Facts) -> &mut Interface {
    facts.interface.as_mut().unwrap()
}

fn link(facts: &mut Facts) -> &mut Link {
    &mut ice(facts).link
}

fn queue(facts: &mut Facts, id: usize) -> &mut RxQueue {
    &mut ice(facts).rx_queues.as_mut().unwrap()[id]
}

fn turn_on(facts: &mut Facts, feature: &str) {
    let features = ice(facts).features.as_mut().unwrap();
    features.get_mut(feature).unwrap().on = true;
}

fn legacy_rx(facts: &mut Facts) {
    link(facts).mtu = 1700;
    let flags = ice(facts).private_flags.as_mut().unwrap();
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

/// Whoever reads a report learns of each finding why it matters and what to do.
#[test]
fn all_that_is_bad_is_explained_and_mended() {
    let of_changes = CHANGES.iter().map(|(_, change, options, ..)| {
        let mut facts = facts("ice");
        change(&mut facts);
        judge(&facts, &plan(options))
    });
    let of_machines = MACHINES
        .iter()
        .map(|(name, options, _)| judge(&facts(name), &plan(options)));
    for finding in of_changes.chain(of_machines).flatten() {
        if finding.severity > Severity::Ok {
            assert!(!finding.why.is_empty(), "{finding:?}");
        }
        if finding.severity > Note {
            assert!(!finding.mends.is_empty(), "{finding:?}");
        }
        for mend in &finding.mends {
            assert!(
                !mend.steps.is_empty() || !mend.remark.is_empty(),
                "{finding:?}"
            );
            assert!(
                !mend.is_safe || !mend.remark.is_empty(),
                "why it is safe: {finding:?}"
            );
            let words = mend
                .steps
                .iter()
                .flat_map(|step| step.command.iter().chain(&step.undo));
            for word in words {
                assert!(!word.is_empty() && !word.contains('{'), "{finding:?}");
            }
        }
    }
}

/// What `--fix` would run, with how it is undone.
fn fixes(findings: &[Finding]) -> Vec<(String, String)> {
    let mends = findings
        .iter()
        .flat_map(|f| &f.mends)
        .filter(|mend| mend.is_safe);
    let steps = mends.flat_map(|mend| &mend.steps);
    steps
        .map(|step| (shell(&step.command), shell(&step.undo)))
        .collect()
}

#[test]
fn only_what_is_harmless_is_run_unasked() {
    for (name, options, want) in [
        (
            "veth",
            "",
            &[(
                "ethtool -K vd1 tx off",
                "ethtool -K vd1 tx-checksum-ip-generic on tx-checksum-sctp on",
            )][..],
        ),
        (
            "virtio_net",
            "",
            &[(
                "ethtool -K ens3 rx-gro-hw off",
                "ethtool -K ens3 rx-gro-hw on",
            )],
        ),
        (
            "ice",
            "--busy-poll 20 --huge-pages --frames 131072",
            &[
                (
                    "sysctl -w vm.nr_hugepages=1024",
                    "sysctl -w vm.nr_hugepages=512",
                ),
                (
                    "sh -c 'echo 2 > /sys/class/net/ens1f0/napi_defer_hard_irqs'",
                    "sh -c 'echo 0 > /sys/class/net/ens1f0/napi_defer_hard_irqs'",
                ),
                (
                    "sh -c 'echo 200000 > /sys/class/net/ens1f0/gro_flush_timeout'",
                    "sh -c 'echo 0 > /sys/class/net/ens1f0/gro_flush_timeout'",
                ),
            ],
        ),
        // More than a quarter of the memory is not taken unasked.
        ("ice", "--huge-pages --frames 1048576", &[]),
        ("i40e", "", &[]),
        ("ixgbe", "", &[]),
        ("mlx5_core", "", &[]),
        ("ena", "", &[]),
    ] {
        let found = fixes(&judge(&facts(name), &plan(options)));
        let found: Vec<_> = found
            .iter()
            .map(|(run, undo)| (&run[..], &undo[..]))
            .collect();
        assert_eq!(found, want, "{name} {options}");
    }
}

#[test]
fn a_peer_in_another_namespace_is_mended_there() {
    let mut facts = facts("veth");
    let peer = ice(&mut facts).peer.as_mut().unwrap();
    peer.is_here = false;
    peer.namespace = Some("blue".into());
    let (run, undo) = fixes(&judge(&facts, &plan(""))).pop().unwrap();
    assert_eq!(run, "ip netns exec blue ethtool -K vd1 tx off");
    assert!(
        undo.starts_with("ip netns exec blue ethtool -K vd1 tx-checksum-"),
        "{undo}"
    );
}

#[test]
fn facts_survive_being_written_down() {
    for (name, text) in FIXTURES {
        let facts: Facts = serde_json::from_str(text).unwrap();
        let again: Facts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        assert_eq!(facts, again, "{name}");
    }
}

#[test]
fn facts_of_another_version_are_read_as_far_as_they_go() {
    let facts: Facts =
        serde_json::from_str(r#"{"new": 1, "machine": {"kernel": "6.6.1"}}"#).unwrap();
    assert_eq!(facts.machine.kernel.as_deref(), Some("6.6.1"));
    assert_eq!(not_ok(&judge(&facts, &plan(""))), [("build", Problem)]);
}

/// The reports of two machines, as a person reads them.
#[test]
fn reports_read_as_they_are_kept() {
    for (name, want) in [
        ("veth", include_str!("fixtures/veth.report")),
        ("ena", include_str!("fixtures/ena.report")),
    ] {
        let facts = facts(name);
        let plan = plan("");
        let findings = judge(&facts, &plan);
        let report = Report::new(&facts, &plan, &findings).to_string();
        assert_eq!(report, want, "the report of {name} is now:\n{report}");
    }
}

#[test]
fn plans_are_read_as_serve_reads_its_options() {
    let planned =
        plan("--queues 2 --busy-poll 20:8 --ports 80,8000-8002 --bind zerocopy --frame-len 4096");
    assert_eq!(planned.queues, Some(2..=2));
    assert_eq!(
        planned.busy_poll,
        Some(BusyPoll {
            usecs: 20,
            budget: 8
        })
    );
    assert_eq!(planned.ports, [80, 8000, 8001, 8002]);
    assert_eq!(plan("--share-host").ports, [8080]);
    assert_eq!(
        (plan("").frame_len(1500), plan("").frame_len(1775)),
        (2048, 4096)
    );
    for wrong in [
        "--queues 3-1",
        "--queues x",
        "--ports 0-x",
        "--frame-len 1024",
        "--busy-poll a",
    ] {
        let words = ["doctor"].into_iter().chain(wrong.split(' '));
        assert!(Planned::try_parse_from(words).is_err(), "{wrong}");
    }
}
