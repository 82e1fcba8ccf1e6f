//! Running the mends that are safe.
//!
//! Safe is what takes effect at once, keeps links up and connections alive,
//! takes nothing that others need, and can be undone by a command, which is
//! printed. All else (resetting a NIC, changing an MTU or an address, ending a
//! process) is left to the operator.

use std::process::{Command, Stdio};

use super::judge::{Finding, Severity, Step};
use super::shell::{printable, shell};

/// What was done.
pub struct Done {
    /// The commands that were run, and failed.
    failed: usize,
    /// Commands that undo those that went well.
    undo: Vec<String>,
}

impl Done {
    /// Whether anything changed.
    pub fn changed_any(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Prints how to undo what was done, the last first.
    pub fn say_undo(&self) {
        match (self.failed, self.undo.is_empty()) {
            (0, true) => eprintln!("doctor --fix: there is nothing that is safe to mend unasked"),
            (0, false) => {}
            (n, _) => eprintln!("doctor --fix: {n} of the commands failed (most need root)"),
        }
        if self.changed_any() {
            eprintln!("to undo:");
        }
        for undo in self.undo.iter().rev() {
            eprintln!("  {}", printable(undo));
        }
    }
}

/// The steps of the safe mends of what is a warning or worse.
pub fn steps(findings: &[Finding]) -> impl Iterator<Item = &Step> {
    let bad = findings.iter().filter(|f| f.severity >= Severity::Warning);
    let safe = bad.flat_map(|f| &f.mends).filter(|mend| mend.is_safe);
    safe.flat_map(|mend| &mend.steps)
}

/// Runs the safe mends. Each command is printed before it is run; to standard
/// error, so that JSON stays alone on standard output.
pub fn run(findings: &[Finding]) -> Done {
    let outcomes: Vec<_> = steps(findings).map(run_one).collect();
    Done {
        failed: outcomes.iter().filter(|undo| undo.is_none()).count(),
        undo: outcomes.into_iter().flatten().collect(),
    }
}

/// The command that undoes it, if it went well.
fn run_one(step: &Step) -> Option<String> {
    let (program, args) = step.command.split_first()?;
    eprintln!("+ {}", printable(&shell(&step.command)));
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => return Some(shell(&step.undo)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!("  failed ({}): {}", output.status, said.trim());
        }
        Err(err) => eprintln!("  cannot run {program}: {err}"),
    }
    None
}
