//! Machines, plans, and what is to be found in each.
//!
//! The facts in `fixtures` were recorded on real machines for `veth` and
//! `virtio_net-firecracker`; the others were put together from what is publicly
//! known of the drivers.

mod changes;
mod machines;

use clap::Parser;

use super::facts::{Facts, Interface};
use super::fix;
use super::judge::{Finding, Severity, Step, judge};
use super::plan::{Plan, PlanOptions};
use super::report::Report;
use super::shell::shell;
use Severity::{Note, Problem};
use changes::CHANGES;
use machines::MACHINES;

macro_rules! fixture {
    ($file:literal) => {
        ($file, include_str!(concat!("../fixtures/", $file)))
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

/// The interface that the facts hold.
fn interface(facts: &mut Facts) -> &mut Interface {
    facts.interface.as_mut().expect("the fixture has one")
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
    let both = |step: &Step| (shell(&step.command), shell(&step.undo));
    fix::steps(findings).map(both).collect()
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
        ("virtio_net", "", &[]),
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
    let peer = interface(&mut facts).peer.as_mut().unwrap();
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
        ("veth", include_str!("../fixtures/veth.report")),
        ("ena", include_str!("../fixtures/ena.report")),
    ] {
        let facts = facts(name);
        let plan = plan("");
        let findings = judge(&facts, &plan);
        let report = Report::new(&facts, &plan, &findings).to_string();
        assert!(report == want, "the report of {name} is now:\n{report}");
    }
}

#[test]
fn plans_are_read_as_serve_reads_its_options() {
    let planned =
        plan("--queues 2 --busy-poll 20:8 --ports 80,8000-8002 --bind zerocopy --frame-len 4096");
    assert_eq!(planned.queues, Some(2..=2));
    assert_eq!(
        planned.busy_poll.map(|poll| (poll.usecs, poll.budget)),
        Some((20, 8))
    );
    assert_eq!(planned.ports, [80, 8000, 8001, 8002]);
    assert_eq!(plan("--share-host").ports, [8080]);
    assert_eq!(plan("--share-host --listen :80").ports, [80]);
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

/// Whoever names an interface gets no command of a shell run by it.
#[test]
fn a_name_is_no_command() {
    let mut facts = facts("ice");
    interface(&mut facts).link.name = "a;id>x".into();
    let found = fixes(&judge(&facts, &plan("--busy-poll 20")));
    let (run, undo) = &found[0];
    let path = r"'\''/sys/class/net/a;id>x/napi_defer_hard_irqs'\''";
    assert_eq!(run, &format!("sh -c 'echo 2 > {path}'"));
    assert_eq!(undo, &format!("sh -c 'echo 0 > {path}'"));
}
