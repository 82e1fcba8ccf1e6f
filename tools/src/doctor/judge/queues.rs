//! Channels, how flows are spread, rings, interrupts, busy polling.

use std::collections::BTreeSet;

use super::{Case, Finding, Mend, ranges};
use crate::doctor::plan::{Attach, Bind};

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![channels(case)];
    findings.extend(taken(case));
    findings.extend(spread(case));
    findings.extend(processors(case));
    findings.extend(rings(case));
    findings.extend(frames_for_rings(case));
    findings.extend(numa(case));
    findings.extend(interrupts(case));
    findings.extend(irqbalance(case));
    findings.extend(busy_poll(case));
    findings
}

fn channels(case: &Case<'_>) -> Finding {
    let there = case.rx_queues();
    let most = case
        .interface
        .channels
        .map(|c| c.combined_max.max(c.rx_max));
    let most = most.filter(|most| *most > there);
    let queues = if there == 1 { "queue" } else { "queues" };
    let found = match most {
        Some(most) => format!("{there} receive {queues} of at most {most}"),
        None => format!("{there} receive {queues}"),
    };
    let Some(asked) = case
        .plan
        .queues
        .as_ref()
        .filter(|asked| *asked.end() >= there)
    else {
        return Finding::ok("channels", found);
    };
    let name = case.name();
    let need = asked.end() + 1;
    let last = there - 1;
    let finding = Finding::problem(
        "channels",
        format!("{found}, but --queues names {}", asked.end()),
    )
    .why("a socket cannot be bound to a queue that is not there (EINVAL)");
    let finding = match most.filter(|most| *most >= need) {
        Some(_) => finding.mend(
            Mend::command(&format!("ethtool -L {name} combined {need}"))
                .undo(&format!("ethtool -L {name} combined {there}"))
                .remark("most drivers reset the NIC: its traffic stops for a moment"),
        ),
        None => finding,
    };
    finding.mend(Mend::advice(format!("use --queues 0-{last}")))
}

pub fn ena_channels(case: &Case<'_>) -> Option<Finding> {
    let channels = case.interface.channels?;
    if case.driver() != "ena" || case.plan.attach == Attach::Generic {
        return None;
    }
    let half = channels.combined_max / 2;
    let found = format!(
        "{} channels of at most {} are in use",
        channels.combined, channels.combined_max
    );
    if channels.combined <= half {
        return Some(Finding::ok("ena-channels", found));
    }
    let (name, now) = (case.name(), channels.combined);
    Some(
        Finding::new("ena-channels", case.without_driver_mode(), found)
            .why("ena gives each channel a second transmit queue for XDP: at most half of its channels may be in use (EINVAL otherwise)")
            .mend(
                Mend::command(&format!("ethtool -L {name} combined {half}"))
                    .undo(&format!("ethtool -L {name} combined {now}"))
                    .remark("the NIC is reset: its traffic stops for a moment"),
            ),
    )
}

pub fn veth_queues(case: &Case<'_>) -> Option<Finding> {
    let peer = case.interface.peer.as_ref()?;
    let sends = peer.tx_queues?;
    let receives = case.rx_queues();
    if sends <= receives || case.plan.attach == Attach::Generic {
        return None;
    }
    let found = format!("the peer sends on {sends} queues, this end receives on {receives}");
    Some(
        Finding::new("veth-queues", case.without_driver_mode(), found)
            .why("veth refuses a program in the driver where the peer has more transmit queues than this end has receive queues (ENOSPC)")
            .mend(
                Mend::command(&format!("ethtool -L {} rx {sends}", case.name()))
                    .undo(&format!("ethtool -L {} rx {receives}", case.name()))
                    .remark("if the pair was made with so many; otherwise make it anew with `numrxqueues`"),
            ),
    )
}

fn taken(case: &Case<'_>) -> Option<Finding> {
    let queues = case.interface.rx_queues.as_ref()?;
    let wanted = |id: u32| {
        case.plan
            .queues
            .as_ref()
            .is_none_or(|asked| asked.contains(&id))
    };
    let taken: Vec<_> = queues
        .iter()
        .filter(|queue| queue.has_xsk && wanted(queue.id))
        .map(|queue| queue.id)
        .collect();
    if taken.is_empty() {
        return None;
    }
    let found = format!("queues {} have an AF_XDP socket already", ranges(&taken));
    Some(
        Finding::problem("queue-taken", found)
            .why("a queue has one socket (EBUSY)")
            .mend(
                Mend::command("ss --xdp -e -p")
                    .remark("shows who has it; then end that process or choose other --queues"),
            ),
    )
}

/// The queues that flows are spread over.
fn spread_over(case: &Case<'_>) -> BTreeSet<u32> {
    let table = case.interface.rss_table.iter().flatten().copied();
    let table: BTreeSet<_> = table.collect();
    if table.is_empty() {
        return (0..case.rx_queues()).collect();
    }
    table
}

fn spread(case: &Case<'_>) -> Option<Finding> {
    let over = spread_over(case);
    let shown = ranges(&over.iter().copied().collect::<Vec<_>>());
    let Some(asked) = &case.plan.queues else {
        return Some(Finding::ok(
            "rss",
            format!("flows are spread over queues {shown}"),
        ));
    };
    let left: Vec<_> = over
        .iter()
        .copied()
        .filter(|queue| !asked.contains(queue))
        .collect();
    if left.is_empty() {
        let unused: Vec<_> = asked
            .clone()
            .filter(|queue| !over.contains(queue))
            .collect();
        return Some(if unused.is_empty() {
            Finding::ok("rss", format!("flows are spread over queues {shown}"))
        } else {
            Finding::note(
                "rss",
                format!("no flows are spread to queues {}", ranges(&unused)),
            )
            .why("these get work only from rules of their own (`ethtool -N`)")
        });
    }
    let found = format!(
        "flows are spread to queues {} too, which --queues leaves out",
        ranges(&left)
    );
    let name = case.name();
    let (start, count) = (asked.start(), case.served_queues());
    let last = case.rx_queues() - 1;
    let finding = Finding::warning("rss", found)
        .why("what arrives there goes to the kernel, which has no server at that address: those connections fail, unless rules (`ethtool -N`) steer the server's flows to its queues");
    let finding = if case
        .interface
        .rss_table
        .as_ref()
        .is_some_and(|table| !table.is_empty())
    {
        finding.mend(
            Mend::command(&format!("ethtool -X {name} start {start} equal {count}"))
                .undo(&format!("ethtool -X {name} default"))
                .remark("the kernel's traffic on this interface then uses these queues alone, too"),
        )
    } else {
        finding
    };
    Some(finding.mend(Mend::advice(format!("use --queues 0-{last}"))))
}

fn processors(case: &Case<'_>) -> Option<Finding> {
    let cpus = u32::try_from(case.facts.machine.cpus.len()).ok()?;
    let queues = case.served_queues();
    if cpus == 0 || queues <= cpus {
        return None;
    }
    let name = case.name();
    let found = format!("{queues} queues for {cpus} processors");
    let finding = Finding::warning("processors", found)
        .why("each queue has a shard of its own: more of them than processors share processors, and wait for each other");
    let can_change = case.interface.channels.is_some_and(|c| c.combined > cpus);
    Some(if can_change {
        finding.mend(
            Mend::command(&format!("ethtool -L {name} combined {cpus}"))
                .undo(&format!("ethtool -L {name} combined {}", case.rx_queues()))
                .remark("most drivers reset the NIC: its traffic stops for a moment"),
        )
    } else {
        finding.mend(Mend::advice(format!("use --queues 0-{}", cpus - 1)))
    })
}

fn rings(case: &Case<'_>) -> Option<Finding> {
    let rings = case.interface.rings?;
    let found = format!(
        "rings of {} frames to receive (at most {}), {} to send (at most {})",
        rings.rx, rings.rx_max, rings.tx, rings.tx_max
    );
    if rings.rx >= 512 || rings.rx >= rings.rx_max {
        return Some(Finding::ok("rings", found));
    }
    let (name, better) = (case.name(), rings.rx_max.min(2048));
    Some(
        Finding::note("rings", found)
            .why("a burst that is longer than the receive ring is lost before anyone sees it")
            .mend(
                Mend::command(&format!("ethtool -G {name} rx {better}"))
                    .undo(&format!("ethtool -G {name} rx {}", rings.rx))
                    .remark("most drivers reset the NIC: its traffic stops for a moment"),
            ),
    )
}

/// With zero-copy the NIC's ring is filled from the server's frames.
fn frames_for_rings(case: &Case<'_>) -> Option<Finding> {
    let rings = case.interface.rings?;
    let offers = case.interface.xdp.is_some_and(|xdp| xdp.zero_copy);
    let wanted = case.plan.bind != Bind::Copy && case.plan.attach != Attach::Generic;
    let frames = case.plan.frames;
    if !offers || !wanted || frames >= 2 * rings.rx {
        return None;
    }
    let name = case.name();
    let found = format!("{frames} frames for a receive ring of {}", rings.rx);
    Some(
        Finding::warning("frames", found)
            .why("with zero-copy the NIC holds as many of the server's frames as its ring has places: what is left must do for all that is in flight and buffered")
            .mend(Mend::advice(format!("use --frames {}", 4 * rings.rx)))
            .mend(
                Mend::command(&format!("ethtool -G {name} rx {}", frames / 4))
                    .undo(&format!("ethtool -G {name} rx {}", rings.rx))
                    .remark("most drivers reset the NIC: its traffic stops for a moment"),
            ),
    )
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
        Finding::note("numa", format!("at NUMA node {node} (processors {cpus}) of {}", nodes.len()))
            .why("frames and threads on another node than the NIC's cross the link between them for each frame")
            .mend(
                Mend::command(&format!("numactl --cpunodebind={node} --membind={node} wirepath serve --xdp {}", case.name()))
                    .remark("with the rest of its options"),
            ),
    )
}

/// The interrupt and the processors of each served queue.
fn interrupts_of_queues(case: &Case<'_>) -> Vec<(u32, u32, Vec<u32>)> {
    let wanted = |id: u32| {
        case.plan
            .queues
            .as_ref()
            .is_none_or(|asked| asked.contains(&id))
    };
    let queues = case.interface.rx_queues.iter().flatten();
    queues
        .filter(|queue| wanted(queue.id))
        .filter_map(|queue| {
            let irq = queue.irq?;
            let cpus = case.interface.irqs.get(&irq)?;
            Some((queue.id, irq, cpus.clone()))
        })
        .collect()
}

fn interrupts(case: &Case<'_>) -> Option<Finding> {
    let all = interrupts_of_queues(case);
    if all.len() < 2 {
        return None;
    }
    let used: BTreeSet<_> = all.iter().flat_map(|(.., cpus)| cpus).collect();
    let found = all
        .iter()
        .map(|(queue, _, cpus)| format!("{queue} on {}", ranges(cpus)));
    let found = found.collect::<Vec<_>>().join(", ");
    let found = format!("interrupts of queues: {found}");
    if used.len() >= all.len().min(case.facts.machine.cpus.len()) {
        return Some(Finding::ok("interrupts", found));
    }
    let cpus = &case.facts.machine.cpus;
    let mends = all
        .iter()
        .zip(cpus.iter().cycle())
        .map(|((_, irq, now), cpu)| {
            let set = |list: &str| format!("echo {list} > /proc/irq/{irq}/smp_affinity_list");
            Mend::words(["sh", "-c", &set(&cpu.to_string())]).undo_words([
                "sh",
                "-c",
                &set(&ranges(now)),
            ])
        });
    let mut finding = Finding::warning("interrupts", found).why(
        "queues whose interrupts share a processor share its time, however many the others are",
    );
    finding.mends.extend(mends);
    Some(finding)
}

fn irqbalance(case: &Case<'_>) -> Option<Finding> {
    if case.facts.machine.irqbalance_runs != Some(true) || case.interface.irqs.is_empty() {
        return None;
    }
    Some(
        Finding::note("irqbalance", "irqbalance runs")
            .why("it moves interrupts between processors as it sees fit, and undoes what was set by hand")
            .mend(
                Mend::command("systemctl stop irqbalance")
                    .undo("systemctl start irqbalance")
                    .remark("not run by --fix: it serves the whole machine; it can also be told to leave interrupts alone (IRQBALANCE_BANNED_CPULIST)"),
            ),
    )
}

/// What the kernel's documentation of busy polling proposes
/// (Documentation/networking/napi.rst).
const DEFER_HARD_IRQS: u32 = 2;
const GRO_FLUSH_TIMEOUT: u64 = 200_000;

fn busy_poll(case: &Case<'_>) -> Option<Finding> {
    let queue = case.interface.rx_queues.as_ref()?.first()?;
    let (defer, timeout) = (queue.defer_hard_irqs?, queue.gro_flush_timeout?);
    let found = format!("napi_defer_hard_irqs is {defer}, gro_flush_timeout is {timeout} ns");
    let is_set = defer > 0 && timeout > 0;
    match (case.plan.busy_poll.is_some(), is_set) {
        (true, true) | (false, false) => Some(Finding::ok("busy-poll", found)),
        (false, true) => Some(
            Finding::note("busy-poll", found)
                .why("without --busy-poll this delays what arrives, up to the timeout")
                .mend(setting(case, "napi_defer_hard_irqs", 0, u64::from(defer)))
                .mend(setting(case, "gro_flush_timeout", 0, timeout)),
        ),
        (true, false) => Some(
            Finding::warning("busy-poll", found)
                .why("with --busy-poll the server asks the NIC itself: its interrupts interrupt that, unless they are put off")
                .mend(setting(case, "napi_defer_hard_irqs", u64::from(DEFER_HARD_IRQS), u64::from(defer)).safe())
                .mend(setting(case, "gro_flush_timeout", GRO_FLUSH_TIMEOUT, timeout).safe()),
        ),
    }
}

fn setting(case: &Case<'_>, file: &str, to: u64, from: u64) -> Mend {
    let path = format!("/sys/class/net/{}/{file}", case.name());
    let write = |value: u64| ["sh".into(), "-c".into(), format!("echo {value} > {path}")];
    Mend::words::<String>(write(to)).undo_words::<String>(write(from))
}
