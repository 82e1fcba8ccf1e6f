//! Muxes made from a file, one of which a request asks for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use wirepath::http::StatusCode;
use wirepath::{Handler, Request, ResponseWriter, ServeMux};

use crate::echo::points;
use crate::query;

/// The header that chooses a set.
const CHOICE: &str = "X-Mux-Set";
/// The set that tells which patterns the others took.
const REGISTERED: &str = "__reg";

/// One set of the file.
#[derive(Deserialize)]
struct Set {
    id: String,
    patterns: Vec<String>,
}

/// The muxes by their sets' names.
#[derive(Default)]
pub struct MuxSets {
    muxes: HashMap<String, ServeMux>,
    /// For each set, what became of each of its patterns.
    registered: HashMap<String, Value>,
}

impl MuxSets {
    /// Makes the muxes of a file; what a mux refuses is left out of it.
    pub fn read(path: &Path) -> Result<MuxSets, String> {
        let cannot = |e: &dyn std::fmt::Display| {
            format!("cannot read the mux sets of {}: {e}", path.display())
        };
        let text = fs::read(path).map_err(|e| cannot(&e))?;
        let list: Vec<Set> = serde_json::from_slice(&text).map_err(|e| cannot(&e))?;
        let mut sets = MuxSets::default();
        for set in list {
            let mut mux = ServeMux::new();
            let became: Vec<_> = set.patterns.iter().map(|p| register(&mut mux, p)).collect();
            sets.registered.insert(set.id.clone(), became.into());
            sets.muxes.insert(set.id, mux);
        }
        Ok(sets)
    }

    /// The handler that asks these for requests that choose one, and `other`
    /// for the rest.
    pub fn or_else(self, other: ServeMux) -> impl Handler {
        move |w: &mut ResponseWriter, r: &mut Request| match r.header(CHOICE).map(Cow::into_owned) {
            None => other.serve(w, r),
            Some(id) if id == REGISTERED => self.tell(w, r),
            Some(id) => match self.muxes.get(&id) {
                Some(mux) => mux.serve(w, r),
                None => wirepath::error(w, "no such mux set", StatusCode::NOT_FOUND),
            },
        }
    }

    fn tell(&self, w: &mut ResponseWriter, r: &Request) {
        match self.registered.get(&query::text(r, "id")) {
            Some(became) => {
                w.header("Content-Type", "application/json");
                let _ = writeln!(w, "{became}");
            }
            None => wirepath::error(w, "no such mux set", StatusCode::NOT_FOUND),
        }
    }
}

fn register(mux: &mut ServeMux, pattern: &str) -> Value {
    let (source, names) = (pattern.to_owned(), wildcards(pattern));
    let handler = move |w: &mut ResponseWriter, r: &mut Request| {
        let values: Map<_, _> = names
            .iter()
            .map(|name| (name.clone(), points(&r.path_value_bytes(name)).into()))
            .collect();
        w.header("X-Pattern", &source);
        w.header("X-Path-Values", Value::Object(values).to_string());
        let _ = w.write_all(b"ok\n");
    };
    let error = mux.try_handle(pattern, handler).err();
    json!({
        "pattern": pattern,
        "ok": error.is_none(),
        "err": error.map_or_else(String::new, |e| e.to_string()),
    })
}

/// The names in `{name}` and `{name...}`.
fn wildcards(pattern: &str) -> Vec<String> {
    let parts = pattern.split('{').skip(1);
    let inside = parts.filter_map(|part| Some(part.split_once('}')?.0));
    inside
        .map(|name| name.strip_suffix("...").unwrap_or(name))
        .filter(|name| *name != "$" && !name.is_empty())
        .map(str::to_owned)
        .collect()
}
