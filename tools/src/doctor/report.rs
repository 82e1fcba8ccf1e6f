//! Showing findings, to people and as JSON.
//!
//! What blocks and what costs is shown in full: found, why it matters, the
//! command. What is well takes a line.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::facts::{Facts, Unseen};
use super::judge::{About, Finding, Mend, Severity};
use super::plan::Plan;
use super::shell::{printable, shell};

/// The width that text is wrapped at, columns.
const WIDTH: usize = 92;
/// Where the text of a finding begins, columns.
const INDENT: usize = 10;

/// All that `doctor` has to say.
#[derive(Serialize)]
pub struct Report<'a> {
    /// What was judged.
    pub plan: &'a Plan,
    /// What was found.
    pub findings: &'a [Finding],
    /// What could not be seen.
    pub unseen: &'a [Unseen],
    /// How many findings are problems.
    pub problems: usize,
    /// The facts.
    pub facts: &'a Facts,
}

impl<'a> Report<'a> {
    /// A report of `findings`, which are those of `facts` and `plan`.
    pub fn new(facts: &'a Facts, plan: &'a Plan, findings: &'a [Finding]) -> Report<'a> {
        Report {
            plan,
            findings,
            unseen: &facts.unseen,
            problems: count(findings, Severity::Problem),
            facts,
        }
    }

    /// What one who is not root puts before each command.
    fn prompt(&self) -> &'static str {
        match self.facts.machine.process.user {
            Some(0) | None => "",
            Some(_) => "sudo ",
        }
    }

    fn about(&self, about: About) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.about == about)
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine")?;
        for finding in self.about(About::Machine) {
            write_finding(f, finding, self.prompt())?;
        }
        if let Some(interface) = &self.facts.interface {
            writeln!(f, "\ninterface {}", printable(&interface.link.name))?;
            for finding in self.about(About::Interface) {
                write_finding(f, finding, self.prompt())?;
            }
        }
        if self.facts.interface.is_none() && !self.facts.interfaces.is_empty() {
            let names = self.facts.interfaces.join(", ");
            writeln!(f, "\ninterfaces")?;
            let text = format!("{names}: `wirepath doctor NAME` looks at one");
            write_wrapped(f, "", &text)?;
        }
        if !self.unseen.is_empty() {
            writeln!(f, "\nnot seen")?;
            for Unseen { what, why } in self.unseen {
                write_wrapped(f, "", &format!("{what}: {why}"))?;
            }
        }
        // With problems it is the command's last words, on standard error.
        if self.problems == 0 {
            writeln!(f, "\n{}", summary(self.findings, self.facts))?;
        }
        Ok(())
    }
}

/// One line that says whether the server can start.
pub fn summary(findings: &[Finding], facts: &Facts) -> String {
    let problems = count(findings, Severity::Problem);
    let warnings = count(findings, Severity::Warning);
    let what = match &facts.interface {
        Some(interface) => format!("`wirepath serve --xdp {}`", printable(&interface.link.name)),
        None => "`wirepath serve --xdp`".into(),
    };
    let warned = match warnings {
        0 => String::new(),
        1 => "; 1 warning".into(),
        n => format!("; {n} warnings"),
    };
    match problems {
        0 => format!("nothing that was seen stands in the way of {what}{warned}"),
        1 => format!("1 problem stands in the way of {what}{warned}"),
        n => format!("{n} problems stand in the way of {what}{warned}"),
    }
}

fn label(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Problem => "PROBLEM",
    }
}

fn write_finding(f: &mut fmt::Formatter<'_>, finding: &Finding, prompt: &str) -> fmt::Result {
    let found = format!("{}: {}", finding.id, finding.found);
    write_wrapped(f, label(finding.severity), &found)?;
    if !finding.why.is_empty() {
        write_wrapped(f, "  why", &finding.why)?;
    }
    for (at, mend) in finding.mends.iter().enumerate() {
        write_mend(f, if at == 0 { "  mend" } else { "  or" }, mend, prompt)?;
    }
    Ok(())
}

fn write_mend(f: &mut fmt::Formatter<'_>, label: &str, mend: &Mend, prompt: &str) -> fmt::Result {
    if mend.steps.is_empty() {
        return write_wrapped(f, label, &mend.remark);
    }
    write_commands(
        f,
        label,
        prompt,
        mend.steps.iter().map(|step| &step.command),
    )?;
    let safe = if mend.is_safe { " (--fix runs it)" } else { "" };
    if !mend.remark.is_empty() {
        write_wrapped(f, "", &format!("{}{safe}", mend.remark))?;
    }
    let undo = mend.steps.iter().map(|step| &step.undo);
    write_commands(f, "  undo", prompt, undo.filter(|undo| !undo.is_empty()))
}

/// Commands are never broken: they are there to be copied.
fn write_commands<'a>(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    prompt: &str,
    commands: impl Iterator<Item = &'a Vec<String>>,
) -> fmt::Result {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    for (label, command) in labels.zip(commands) {
        writeln!(
            f,
            "  {label:<INDENT$}{prompt}{}",
            printable(&shell(command))
        )?;
    }
    Ok(())
}

fn write_wrapped(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let mut label = label;
    for line in wrap(&printable(text), WIDTH - INDENT - 2) {
        writeln!(f, "  {label:<INDENT$}{line}")?;
        label = "";
    }
    Ok(())
}

/// Lines of at most `width` columns, unless a word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                let _ = write!(line, " {word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("abcdefgh i", 4), ["abcdefgh", "i"]);
    }
}
