//! `docs/differences-from-go.md`: the rows that differing vectors name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The page.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences-from-go.md")
}

/// Its rows' names, and how many vectors each says it has. A row begins with
/// its name in backticks and ends with the number.
///
/// # Panics
/// If the page cannot be read: it is part of the repository.
#[track_caller]
pub fn rows() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(path()).expect("the page is there");
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<(String, usize)> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((name.to_owned(), cells.last()?.parse().ok()?))
}

/// Writes the numbers of `counts` into the rows.
///
/// # Panics
/// If the page cannot be read or written.
#[track_caller]
pub fn set_counts(counts: &BTreeMap<String, usize>) {
    let text = fs::read_to_string(path()).expect("the page is there");
    let mut new = String::new();
    for line in text.lines() {
        match row(line) {
            Some((name, old)) => {
                let count = counts.get(&name).copied().unwrap_or(0);
                let head = line.strip_suffix(&format!("| {old} |"));
                new += &format!("{}| {count} |", head.expect("a row ends with its number"));
            }
            None => new += line,
        }
        new.push('\n');
    }
    fs::write(path(), new).expect("the page can be written");
}
