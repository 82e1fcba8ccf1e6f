//! Finding the `wirepath` command that the tests run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where cargo puts what it builds.
pub fn target_dir() -> &'static Path {
    // target/PROFILE/deps/TEST
    nth_parent(2)
}

/// The folder of the profile that the tests were built with.
fn profile_dir() -> &'static Path {
    nth_parent(1)
}

fn nth_parent(n: usize) -> &'static Path {
    static DEPS: OnceLock<PathBuf> = OnceLock::new();
    let deps = DEPS.get_or_init(|| {
        let exe = std::env::current_exe().expect("Linux knows the path of a running program");
        exe.parent().expect("a program is in a folder").to_owned()
    });
    deps.ancestors()
        .nth(n)
        .expect("cargo puts tests in target/PROFILE/deps")
}

/// The `wirepath` command: what `WIREPATH_BIN` names, or else the one of this
/// tree, which cargo is asked to bring up to date, so that a test never runs
/// yesterday's.
///
/// # Panics
/// If it does not build.
#[track_caller]
pub fn wirepath() -> &'static Path {
    static BIN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let bin = BIN.get_or_init(|| match std::env::var_os("WIREPATH_BIN") {
        Some(path) => Ok(path.into()),
        None => build(),
    });
    bin.as_ref().unwrap_or_else(|err| panic!("{err}"))
}

/// An example of the server crate, by its name, as up to date as
/// [`wirepath`]'s command is.
///
/// # Panics
/// If they do not build.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let args = ["-p", "wirepath", "--examples", "--features=full"];
    let built = BUILT.get_or_init(|| cargo_build(&args));
    built.as_ref().unwrap_or_else(|err| panic!("{err}"));
    profile_dir().join("examples").join(name)
}

fn build() -> Result<PathBuf, String> {
    let xdp = cfg!(feature = "xdp").then_some("--features=xdp");
    let args: Vec<&str> = ["-p", "wirepath-tools"].into_iter().chain(xdp).collect();
    cargo_build(&args)?;
    Ok(profile_dir().join("wirepath"))
}

/// Builds with the profile that the tests were built with.
fn cargo_build(args: &[&str]) -> Result<(), String> {
    let profile = match profile_dir().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile])
        .args(args)
        .arg("--target-dir")
        .arg(target_dir())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .map_err(|err| format!("cargo: {err}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo build {}: {status}", args.join(" "))),
    }
}
