//! Judging: what the facts mean for the plan. A pure function of both.
//!
//! Each check is a function that returns findings with a name that does not
//! change ([`Finding::id`]): tests and scripts go by it. A check that cannot
//! see says nothing, as the facts list what was not seen.
//!
//! A **problem** stops the server from starting, or lets it start and not
//! serve. A **warning** costs speed, or part of the traffic in some set-ups. A
//! **note** is to be known. The rest is ok.

mod address;
mod drivers;
mod frames;
mod interface;
mod interrupts;
mod machine;
mod offloads;
mod queues;

use serde::Serialize;

use super::facts::{Facts, Interface};
use super::plan::{Attach, Plan};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// To be known.
    Note,
    /// Costs speed, or traffic in some set-ups.
    Warning,
    /// The server does not start, or starts and does not serve.
    Problem,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The machine and this process.
    Machine,
    /// The interface.
    Interface,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Its name, which does not change.
    pub id: &'static str,
    /// What it is about.
    pub about: About,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// What mends it, the best first.
    pub mends: Vec<Mend>,
}

/// A way to mend what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mend {
    /// Commands, one after the other; none for advice.
    pub steps: Vec<Step>,
    /// What it does or costs, or the advice.
    pub remark: String,
    /// Whether `--fix` runs it: it takes effect at once, keeps the link up and
    /// connections alive, takes nothing from others, and can be undone.
    pub is_safe: bool,
}

/// A command of a mend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its words.
    pub command: Vec<String>,
    /// The words of the command that undoes it; none where nothing does, or
    /// nothing needs to.
    pub undo: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A command that a shell is needed for.
fn script(text: String) -> Vec<String> {
    vec!["sh".into(), "-c".into(), text]
}

impl Mend {
    /// A command, its words separated by spaces, without an undo.
    fn command(command: &str) -> Mend {
        Mend::steps([(words(command), Vec::new())])
    }

    /// As [`Mend::command`], with the command that undoes it.
    fn change(command: &str, undo: &str) -> Mend {
        Mend::steps([(words(command), words(undo))])
    }

    /// Commands, each with the one that undoes it.
    fn steps(steps: impl IntoIterator<Item = (Vec<String>, Vec<String>)>) -> Mend {
        let steps = steps.into_iter();
        Mend {
            steps: steps
                .map(|(command, undo)| Step { command, undo })
                .collect(),
            remark: String::new(),
            is_safe: false,
        }
    }

    /// What to do where no command does it.
    fn advice(text: impl Into<String>) -> Mend {
        Mend::steps([]).remark(text)
    }

    fn remark(mut self, remark: impl Into<String>) -> Mend {
        self.remark = remark.into();
        self
    }

    /// One that `--fix` runs.
    fn safe(mut self) -> Mend {
        let undoable = self.steps.iter().all(|step| !step.undo.is_empty());
        assert!(undoable, "what is safe can be undone");
        self.is_safe = true;
        self
    }
}

impl Finding {
    fn new(id: &'static str, severity: Severity, found: impl Into<String>) -> Finding {
        Finding {
            id,
            about: About::Interface,
            severity,
            found: found.into(),
            why: String::new(),
            mends: Vec::new(),
        }
    }

    fn ok(id: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Ok, found)
    }

    fn note(id: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Note, found)
    }

    fn warning(id: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Warning, found)
    }

    fn problem(id: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Problem, found)
    }

    fn why(mut self, why: impl Into<String>) -> Finding {
        self.why = why.into();
        self
    }

    fn mend(mut self, mend: Mend) -> Finding {
        self.mends.push(mend);
        self
    }
}

/// An interface with the plan for it, and the rest of the facts.
struct Case<'a> {
    facts: &'a Facts,
    interface: &'a Interface,
    plan: &'a Plan,
}

impl Case<'_> {
    /// The interface's name.
    fn name(&self) -> &str {
        &self.interface.link.name
    }

    fn driver(&self) -> &str {
        self.interface.driver.as_deref().unwrap_or_default()
    }

    /// How bad it is if the program cannot run in the driver.
    fn without_driver_mode(&self) -> Severity {
        match self.plan.attach {
            Attach::Driver => Severity::Problem,
            Attach::Auto => Severity::Warning,
            Attach::Generic => Severity::Ok,
        }
    }

    /// Receive queues; at least one.
    fn rx_queues(&self) -> u32 {
        let channels = self.interface.channels.map(|channels| channels.receiving());
        let made = self.interface.link.rx_queues;
        channels.filter(|n| *n > 0).unwrap_or(made).max(1)
    }

    /// Queues that the plan serves.
    fn served_queues(&self) -> u32 {
        let all = self.rx_queues();
        let asked = self.plan.queues.as_ref();
        asked.map_or(all, |range| range.end() - range.start() + 1)
    }

    /// Whether the plan serves on a queue.
    fn serves(&self, queue: u32) -> bool {
        let asked = self.plan.queues.as_ref();
        asked.is_none_or(|range| range.contains(&queue))
    }

    /// The memory of all frames, bytes.
    fn memory(&self) -> u64 {
        self.plan
            .memory(self.served_queues(), self.interface.link.mtu)
    }

    fn feature_is_on(&self, name: &str) -> bool {
        let features = self.interface.features.as_ref();
        features.is_some_and(|all| all.get(name).is_some_and(|feature| feature.on))
    }

    fn feature_is_fixed(&self, name: &str) -> bool {
        let features = self.interface.features.as_ref();
        features.is_some_and(|all| all.get(name).is_some_and(|feature| feature.fixed))
    }
}

/// Judges the machine, and the interface if the facts hold one.
pub fn judge(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let case = facts.interface.as_ref().map(|interface| Case {
        facts,
        interface,
        plan,
    });
    // Without an interface: one queue of the standard MTU.
    let memory = case
        .as_ref()
        .map_or_else(|| plan.memory(1, 1500), Case::memory);
    let mut findings = machine::judge(facts, plan, memory);
    for finding in &mut findings {
        finding.about = About::Machine;
    }
    if let Some(case) = case {
        findings.extend(interface::judge(&case));
        let native = in_the_driver(&case);
        let is_generic = case.plan.attach == Attach::Generic
            || native.iter().any(|f| f.severity == Severity::Warning);
        findings.extend(native);
        findings.extend(queues::judge(&case));
        findings.extend(interrupts::judge(&case));
        findings.extend(frames::judge(&case));
        findings.extend(offloads::judge(&case, is_generic));
        findings.extend(address::judge(&case));
    }
    findings
}

/// What decides whether the program can run in the driver: where the plan
/// leaves the choice, each that says no is a warning, and generic mode is used.
fn in_the_driver(case: &Case<'_>) -> Vec<Finding> {
    let checks = [
        interface::native(case),
        interface::virtual_functions(case),
        queues::ena_channels(case),
        queues::veth_queues(case),
        frames::native_limit(case),
        offloads::virtio_merging(case),
        offloads::refused_merging(case),
    ];
    checks.into_iter().flatten().collect()
}

/// Bytes as a person reads them.
fn bytes(n: u64) -> String {
    match n {
        n if n >= 10 << 30 => format!("{} GiB", n >> 30),
        n if n >= 1 << 20 => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

/// Numbers as the kernel lists them: `0-3,8`.
fn ranges(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let runs = sorted.chunk_by(|a, b| b - a == 1);
    let texts: Vec<_> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}
