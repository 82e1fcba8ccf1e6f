//! Published variables, as Go's `expvar`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wirepath_runtime::Handle;

/// Something that is shown at `/debug/vars`. Closures that return JSON are.
pub trait Var: Send + Sync + 'static {
    /// Its value, as JSON. What is none spoils the page.
    fn json(&self) -> String;
}

impl<F: Fn() -> String + Send + Sync + 'static> Var for F {
    fn json(&self) -> String {
        self()
    }
}

impl<V: Var> Var for Arc<V> {
    fn json(&self) -> String {
        (**self).json()
    }
}

/// A whole number.
///
/// ```
/// use wirepath::debug;
/// use std::sync::Arc;
///
/// let orders = Arc::new(debug::Int::default());
/// debug::publish("orders", orders.clone())?;
/// orders.add(2);
/// assert!(debug::vars_json(&[]).contains("\"orders\": 2"));
/// # Ok::<(), debug::NameTaken>(())
/// ```
#[derive(Debug, Default)]
pub struct Int(AtomicI64);

impl Int {
    /// Adds to it; wraps around.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Var for Int {
    fn json(&self) -> String {
        self.get().to_string()
    }
}

/// A number with a fraction.
#[derive(Debug, Default)]
pub struct Float(AtomicU64);

impl Float {
    /// Sets it.
    pub fn set(&self, n: f64) {
        self.0.store(n.to_bits(), Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Var for Float {
    /// `null` when it is infinite or not a number: JSON has neither.
    fn json(&self) -> String {
        match self.get() {
            n if n.is_finite() => format!("{n:?}"),
            _ => "null".to_owned(),
        }
    }
}

/// A text.
#[derive(Debug, Default)]
pub struct Text(Mutex<String>);

impl Text {
    /// Sets it.
    pub fn set(&self, text: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }
}

impl Var for Text {
    fn json(&self) -> String {
        quote(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A text as a string of JSON (RFC 8259 §7), also safe within HTML.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\0'..='\u{1f}' | '\u{7f}' | '<' | '>' | '&' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A variable of that name was published before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a variable {0:?} is published already: choose another name")]
pub struct NameTaken(pub String);

type Published = BTreeMap<String, Arc<dyn Var>>;

fn published() -> std::sync::MutexGuard<'static, Published> {
    static VARS: Mutex<Published> = Mutex::new(BTreeMap::new());
    VARS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows a variable at `/debug/vars`, for as long as the process runs.
///
/// # Errors
///
/// When the name is taken; Go's `expvar.Publish` panics then. `cmdline`,
/// `runtime` and `server` are taken always.
pub fn publish(name: impl Into<String>, var: impl Var) -> Result<(), NameTaken> {
    let name = name.into();
    let mut vars = published();
    if ["cmdline", "runtime", "server"].contains(&&*name) || vars.contains_key(&name) {
        return Err(NameTaken(name));
    }
    vars.insert(name, Arc::new(var));
    Ok(())
}

fn object(pairs: &[(&str, u64)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, n)| format!("{}: {n}", quote(name)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The page: an object with what was published, the command line, the counters
/// of the caller's runtime and those of a server.
pub fn vars_json(server: &[(&str, u64)]) -> String {
    // Not under the lock: a variable's code may do anything.
    let vars: Vec<_> = published()
        .iter()
        .map(|(name, var)| (name.clone(), var.clone()))
        .collect();
    let args: Vec<_> = std::env::args_os()
        .map(|arg| quote(&arg.to_string_lossy()))
        .collect();
    let runtime = Handle::current().map(|runtime| runtime.metrics());
    let mut members = vec![
        ("cmdline".to_owned(), format!("[{}]", args.join(", "))),
        ("runtime".to_owned(), object(&runtime.unwrap_or_default())),
        ("server".to_owned(), object(server)),
    ];
    members.extend(vars.into_iter().map(|(name, var)| (name, var.json())));
    let lines: Vec<_> = members
        .iter()
        .map(|(name, json)| format!("{}: {json}", quote(name)))
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json() {
        let text = Text::default();
        text.set("a\"\\\n<é>\u{7f}");
        let float = Float::default();
        assert_eq!(text.json(), r#""a\"\\\u000a\u003cé\u003e\u007f""#);
        for (n, want) in [
            (1.5, "1.5"),
            (2.0, "2.0"),
            (f64::NAN, "null"),
            (1e300, "1e300"),
        ] {
            float.set(n);
            assert_eq!(float.json(), want);
        }
    }

    #[test]
    fn the_page_is_json() {
        publish("vars.test", || r#"{"a": [1, 2]}"#.to_owned()).unwrap();
        let int = Arc::new(Int::default());
        publish("vars.\"int\"", int.clone()).unwrap();
        int.add(-3);
        for taken in ["vars.test", "server", "cmdline"] {
            assert_eq!(publish(taken, String::new), Err(NameTaken(taken.into())));
        }
        let page: serde_json::Value = serde_json::from_str(&vars_json(&[("requests", 7)])).unwrap();
        assert_eq!(page["vars.test"]["a"][1], 2);
        assert_eq!(page["vars.\"int\""], -3);
        assert_eq!(page["server"]["requests"], 7);
        assert!(page["cmdline"].is_array());
    }
}
