//! `wirepath goroutines`: what the goroutines of a running server do.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Args, ValueEnum};
use wirepath::see::Wanted;
use wirepath::see::state::{Goroutine, State};

use crate::control::{Client, MAX_LISTED};
use crate::failure::Failure;

/// Options of `wirepath goroutines`.
#[derive(Args)]
pub struct Options {
    /// The server: its process number, or the path of its control socket. By
    /// default the only one that is running.
    #[arg(value_name = "PID|PATH")]
    target: Option<String>,
    /// Count them instead: by what they do, or by where they were started.
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// Print JSON, a line for each.
    #[arg(long)]
    json: bool,
}

/// What goroutines are counted by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// What they do or wait for.
    Reason,
    /// Where they were started.
    Site,
}

/// Asks and prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut client = Client::find(options.target.as_deref())?;
    if options.by.is_none() && !options.json {
        say!("{}", client.dump()?.trim_end());
        return Ok(());
    }
    let wanted = Wanted {
        flows: 0,
        goroutines: MAX_LISTED,
        requests: 0,
    };
    let state = client.state(&wanted)?;
    match (options.by, options.json) {
        (None, _) => {
            for g in &state.goroutines {
                say!(
                    "{}",
                    serde_json::to_string(g).map_err(|e| Failure::setup(&e))?
                );
            }
        }
        (Some(by), true) => {
            let counts = serde_json::to_string(&counts(&state, by));
            say!("{}", counts.map_err(|e| Failure::setup(&e))?);
        }
        (Some(by), false) => say!("{}", table(&counts(&state, by), &state).trim_end()),
    }
    Ok(())
}

/// A goroutine on a line: what it does or waits for, and where it was started.
pub(crate) fn line(g: &Goroutine) -> String {
    let name = g
        .name
        .as_deref()
        .map_or(String::new(), |name| format!(" «{name}»"));
    let flow = if g.flow == 0 {
        ""
    } else {
        ", for a connection"
    };
    format!(
        "goroutine {}{name} [{}{flow}] started at {}",
        g.g, g.state, g.site
    )
}

fn counts(state: &State, by: By) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    match by {
        By::Reason => counts.clone_from(&state.by_reason),
        By::Site => {
            let sites = state.goroutines.iter().map(|g: &Goroutine| g.site.clone());
            sites.for_each(|site| *counts.entry(site).or_default() += 1);
        }
    }
    counts
}

fn table(counts: &BTreeMap<String, usize>, state: &State) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let mut text = String::new();
    for (name, count) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{count:>8}  {name}");
    }
    let counted: usize = counts.values().sum();
    let _ = writeln!(text, "{:>8}  in all", state.goroutines_total.max(counted));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_come_first() {
        let g = |site: &str| Goroutine {
            site: site.to_owned(),
            ..Goroutine::default()
        };
        let state = State {
            goroutines: vec![g("a.rs:1"), g("b.rs:2"), g("b.rs:2")],
            goroutines_total: 3,
            by_reason: [("IO wait".to_owned(), 3)].into(),
            ..State::default()
        };
        let text = table(&counts(&state, By::Site), &state);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines, ["2  b.rs:2", "1  a.rs:1", "3  in all"]);
        assert_eq!(counts(&state, By::Reason)["IO wait"], 3);
    }
}
