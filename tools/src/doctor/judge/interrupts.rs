//! Processors: as many as queues, near the NIC, and what interrupts them.

use std::collections::BTreeSet;

use super::{Case, Finding, Mend, ranges, script};
use crate::doctor::shell::quoted;

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let checks = [
        processors(case),
        numa(case),
        interrupts(case),
        irqbalance(case),
        busy_poll(case),
    ];
    checks.into_iter().flatten().collect()
}

fn processors(case: &Case<'_>) -> Option<Finding> {
    let cpus = u32::try_from(case.facts.machine.cpus.len()).ok()?;
    let queues = case.served_queues();
    if cpus == 0 || queues <= cpus {
        return None;
    }
    let name = case.name();
    let found = format!("{queues} queues for {cpus} processors");
    let finding = Finding::warning("processors", found).why(
        "each queue has a shard of its own: more of them than processors share processors, \
         and wait for each other",
    );
    let can_change = case.interface.channels.is_some_and(|c| c.combined > cpus);
    Some(if can_change {
        finding.mend(
            Mend::change(
                &format!("ethtool -L {name} combined {cpus}"),
                &format!("ethtool -L {name} combined {}", case.rx_queues()),
            )
            .remark("most drivers reset the NIC: its traffic stops for a moment"),
        )
    } else {
        finding.mend(Mend::advice(format!("use --queues 0-{}", cpus - 1)))
    })
}

fn numa(case: &Case<'_>) -> Option<Finding> {
    let nodes = &case.facts.machine.nodes;
    if nodes.len() < 2 {
        return None;
    }
    let Some(node) = case.interface.numa_node else {
        return Some(
            Finding::note(
                "numa",
                format!("{} NUMA nodes; the interface's does not show", nodes.len()),
            )
            .why("memory of another node than the NIC's is slower"),
        );
    };
    let cpus = nodes
        .get(&node)
        .map(|cpus| ranges(cpus))
        .unwrap_or_default();
    Some(
        Finding::note(
            "numa",
            format!("at NUMA node {node} (processors {cpus}) of {}", nodes.len()),
        )
        .why(
            "frames and threads on another node than the NIC's cross the link between them \
             for each frame",
        )
        .mend(
            Mend::command(&format!(
                "numactl --cpunodebind={node} --membind={node} wirepath serve --xdp {}",
                case.name()
            ))
            .remark("with the rest of its options"),
        ),
    )
}

/// The interrupt of each served queue, with its processors.
fn interrupts_of_queues(case: &Case<'_>) -> Vec<(u32, Vec<u32>)> {
    let queues = case.interface.rx_queues.iter().flatten();
    let irqs = queues
        .filter(|queue| case.serves(queue.id))
        .filter_map(|queue| queue.irq);
    irqs.filter_map(|irq| Some((irq, case.interface.irqs.get(&irq)?.clone())))
        .collect()
}

fn interrupts(case: &Case<'_>) -> Option<Finding> {
    let all = interrupts_of_queues(case);
    if all.len() < 2 {
        return None;
    }
    let used: BTreeSet<_> = all.iter().flat_map(|(_, cpus)| cpus).copied().collect();
    let shown = ranges(&used.iter().copied().collect::<Vec<_>>());
    let found = format!(
        "the interrupts of {} queues go to processors {shown}",
        all.len()
    );
    if used.len() >= all.len().min(case.facts.machine.cpus.len()) {
        return Some(Finding::ok("interrupts", found));
    }
    let better = nearest_processors(case);
    let moves = all.iter().zip(better.iter().cycle());
    let steps = moves
        .filter(|((_, now), cpu)| *now != [**cpu])
        .map(|((irq, now), cpu)| {
            let set =
                |list: &str| script(format!("echo {list} > /proc/irq/{irq}/smp_affinity_list"));
            (set(&cpu.to_string()), set(&ranges(now)))
        });
    Some(
        Finding::warning("interrupts", found)
            .why(
                "queues whose interrupts share a processor share its time, however many the \
                 others are",
            )
            .mend(
                Mend::steps(steps)
                    .remark("not run by --fix: it moves the kernel's work on this interface, too"),
            ),
    )
}

/// The processors of the NIC's NUMA node first.
fn nearest_processors(case: &Case<'_>) -> Vec<u32> {
    let machine = &case.facts.machine;
    let node = case
        .interface
        .numa_node
        .and_then(|node| machine.nodes.get(&node));
    let near = node.into_iter().flatten().copied();
    let near: Vec<_> = near.filter(|cpu| machine.cpus.contains(cpu)).collect();
    let far = machine
        .cpus
        .iter()
        .copied()
        .filter(|cpu| !near.contains(cpu));
    near.iter().copied().chain(far).collect()
}

fn irqbalance(case: &Case<'_>) -> Option<Finding> {
    if case.facts.machine.irqbalance_runs != Some(true) || case.interface.irqs.is_empty() {
        return None;
    }
    Some(
        Finding::note("irqbalance", "irqbalance runs")
            .why(
                "it moves interrupts between processors as it sees fit, and undoes what was set \
                 by hand",
            )
            .mend(
                Mend::change("systemctl stop irqbalance", "systemctl start irqbalance").remark(
                    "not run by --fix: it serves the whole machine; it can also be told \
                     to leave interrupts alone (IRQBALANCE_BANNED_CPULIST)",
                ),
            ),
    )
}

/// What the kernel's documentation of busy polling proposes
/// (Documentation/networking/napi.rst).
const DEFER_HARD_IRQS: u64 = 2;
const GRO_FLUSH_TIMEOUT: u64 = 200_000;

fn busy_poll(case: &Case<'_>) -> Option<Finding> {
    let defer = case.interface.defer_hard_irqs?;
    let timeout = case.interface.gro_flush_timeout?;
    let found = format!("napi_defer_hard_irqs is {defer}, gro_flush_timeout is {timeout} ns");
    let is_set = defer > 0 && timeout > 0;
    match (case.plan.busy_poll.is_some(), is_set) {
        (true, true) | (false, false) => Some(Finding::ok("busy-poll", found)),
        (false, true) => Some(
            Finding::note("busy-poll", found)
                .why("without --busy-poll this delays what arrives, up to the timeout")
                .mend(settings(case, (0, defer), (0, timeout))),
        ),
        (true, false) => Some(
            Finding::warning("busy-poll", found)
                .why(
                    "with --busy-poll the server asks the NIC itself: its interrupts interrupt \
                     that, unless they are put off",
                )
                .mend(
                    settings(case, (DEFER_HARD_IRQS, defer), (GRO_FLUSH_TIMEOUT, timeout))
                        .remark(
                            "measure with and without: where the server sleeps in between, it \
                             can be slower",
                        )
                        .safe(),
                ),
        ),
    }
}

/// Both settings, each as what it is to be and what it was.
fn settings(case: &Case<'_>, defer: (u64, u64), timeout: (u64, u64)) -> Mend {
    let step = |file: &str, (to, from): (u64, u64)| {
        let path = quoted(&format!("/sys/class/net/{}/{file}", case.name()));
        let write = |value: u64| script(format!("echo {value} > {path}"));
        (write(to), write(from))
    };
    Mend::steps([
        step("napi_defer_hard_irqs", defer),
        step("gro_flush_timeout", timeout),
    ])
}
