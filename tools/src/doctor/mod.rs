//! `wirepath doctor`: whether this machine and an interface are fit for
//! `serve --xdp`, what is in the way, and what mends it.
//!
//! Three steps that know nothing of each other: [`collect`] looks and writes
//! down [`facts`], [`judge`] is a pure function of these and of the
//! [`plan`], [`report`] shows what it found. So machines that are not here can
//! be judged from a file, and a bug report can hold all that was seen.
//!
//! Nothing is changed, but by [`fix`] when it is asked for.

mod collect;
mod facts;
mod fix;
mod judge;
mod plan;
mod report;
mod shell;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::facts::Facts;
use self::judge::{Finding, Severity};
use self::plan::{Plan, PlanOptions};
use self::report::Report;
use crate::failure::Failure;

/// Options of `wirepath doctor`.
#[derive(Args)]
pub struct Options {
    /// The interface to look at; without one, the machine alone.
    interface: Option<String>,
    /// Run the mends that are safe, and print how to undo each.
    #[arg(long, conflicts_with = "facts")]
    fix: bool,
    /// Print all that was seen and found as JSON.
    #[arg(long)]
    json: bool,
    /// Write what was seen to this file (JSON), for a bug report.
    #[arg(long, value_name = "FILE")]
    save_facts: Option<PathBuf>,
    /// Judge what --save-facts wrote, perhaps elsewhere, instead of this
    /// machine.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interface", "save_facts"])]
    facts: Option<PathBuf>,
    #[command(
        flatten,
        next_help_heading = "The plan to judge, with the options of `serve --xdp`"
    )]
    plan: PlanOptions,
}

/// Looks, judges, reports, and mends if it is asked to.
pub fn run(options: &Options) -> Result<(), Failure> {
    let plan = Plan::from(&options.plan);
    let mut facts = facts(options)?;
    let mut findings = judge::judge(&facts, &plan);
    if options.fix {
        let done = fix::run(&findings);
        if done.changed_any() {
            facts = look(options)?;
            findings = judge::judge(&facts, &plan);
        }
        done.say_undo();
    }
    print(options, &facts, &plan, &findings)?;
    let blocks = findings.iter().any(|f| f.severity == Severity::Problem);
    if blocks {
        return Err(Failure::running(report::summary(&findings, &facts)));
    }
    Ok(())
}

fn facts(options: &Options) -> Result<Facts, Failure> {
    match &options.facts {
        Some(file) => read(file),
        None => {
            let facts = look(options)?;
            if let Some(file) = &options.save_facts {
                save(&facts, file)?;
            }
            Ok(facts)
        }
    }
}

fn look(options: &Options) -> Result<Facts, Failure> {
    collect::collect(options.interface.as_deref()).map_err(|e| Failure::setup(&e))
}

fn read(file: &Path) -> Result<Facts, Failure> {
    let refused = |why: String| {
        let file = file.display();
        Failure::refused(format!(
            "cannot judge {file}: {why}; it must be what `wirepath doctor --save-facts` wrote"
        ))
    };
    let text = fs::read(file).map_err(|e| refused(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| refused(e.to_string()))
}

fn save(facts: &Facts, file: &Path) -> Result<(), Failure> {
    fs::write(file, json(facts)?).map_err(|e| {
        let file = file.display();
        Failure::refused(format!("cannot write the facts to {file}: {e}"))
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Failure::running(format!("cannot write JSON: {e}")))
}

fn print(
    options: &Options,
    facts: &Facts,
    plan: &Plan,
    findings: &[Finding],
) -> Result<(), Failure> {
    let report = Report::new(facts, plan, findings);
    if options.json {
        say!("{}", json(&report)?);
    } else {
        say!("{}", report.to_string().trim_end());
    }
    Ok(())
}
