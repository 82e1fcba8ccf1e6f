//! Wireshark's extcap interface: running servers as its capture devices.
//!
//! Wireshark runs each program of its extcap folder to ask what it can capture,
//! and then again to have it do so into a named pipe (extcap(4), "The Extcap
//! Protocol"). A script that calls `wirepath capture "$@"` is such a program.

use std::path::PathBuf;

use clap::Args;

use super::{CaptureArgs, Failure, Limits, connect, follow, servers};

/// What an interface's name begins with; the process's number follows.
const PREFIX: &str = "wirepath-";

/// Options that Wireshark gives.
#[derive(Args, Default)]
#[command(next_help_heading = "For Wireshark (extcap)")]
pub struct ExtcapArgs {
    /// List the interfaces.
    #[arg(long)]
    extcap_interfaces: bool,
    /// List the link types of an interface.
    #[arg(long, requires = "extcap_interface")]
    extcap_dlts: bool,
    /// List what can be set of an interface.
    #[arg(long, requires = "extcap_interface")]
    extcap_config: bool,
    /// Capture an interface.
    #[arg(long, requires = "extcap_interface", requires = "fifo")]
    capture: bool,
    /// The interface.
    #[arg(long, value_name = "NAME")]
    extcap_interface: Option<String>,
    /// The pipe to write to.
    #[arg(long, value_name = "PATH")]
    fifo: Option<PathBuf>,
    /// Wireshark's version.
    #[arg(long, value_name = "VERSION")]
    extcap_version: Option<String>,
    /// A filter of Wireshark's, as --pcap-filter.
    #[arg(long, value_name = "EXPR")]
    extcap_capture_filter: Option<String>,
}

impl ExtcapArgs {
    /// Whether Wireshark asks.
    pub fn is_asked(&self) -> bool {
        self.extcap_interfaces
            || self.extcap_interface.is_some()
            || self.extcap_version.is_some()
            || self.extcap_capture_filter.is_some()
    }
}

/// Answers Wireshark.
///
/// # Errors
/// What it asks for cannot be done.
pub fn run(options: &ExtcapArgs, capture: &CaptureArgs) -> Result<(), Failure> {
    if options.capture {
        return into_pipe(options, capture);
    }
    if options.extcap_config {
        say!("{}", CONFIG.trim_end());
    } else if options.extcap_dlts {
        say!("dlt {{number=1}}{{name=EN10MB}}{{display=Ethernet}}");
    } else if options.extcap_interfaces {
        interfaces();
    } else if let Some(filter) = &options.extcap_capture_filter {
        // What is printed is what Wireshark shows as wrong with it.
        if let Err(wrong) = filter.parse::<crate::capture::filter::Filter>() {
            say!("{wrong}");
        }
    }
    Ok(())
}

fn interfaces() {
    let version = env!("CARGO_PKG_VERSION");
    say!("extcap {{version={version}}}{{display=Wirepath}}");
    for (pid, _) in servers() {
        say!("interface {{value={PREFIX}{pid}}}{{display=Wirepath server, process {pid}}}");
    }
}

/// What Wireshark's dialog offers for an interface.
const CONFIG: &str = "\
arg {number=0}{call=--pcap-filter}{display=Filter}{tooltip=As: port 80 and status 5xx}{type=string}
arg {number=1}{call=--snaplen}{display=Bytes of each frame}{type=unsigned}{range=14,262144}{default=65535}
arg {number=2}{call=--pcap-comments}{display=Comments}{tooltip=Descriptor, goroutine, request and times of each frame}{type=selector}
value {arg=2}{value=on}{display=On}{default=true}
value {arg=2}{value=off}{display=Off}{default=false}
";

fn into_pipe(options: &ExtcapArgs, capture: &CaptureArgs) -> Result<(), Failure> {
    let name = options.extcap_interface.as_deref().unwrap_or_default();
    let server = name.strip_prefix(PREFIX).ok_or_else(|| {
        Failure::refused(format!(
            "{name} is no interface of these; --extcap-interfaces lists them"
        ))
    })?;
    let mut args = capture.clone();
    args.pcap.clone_from(&options.fifo);
    if let Some(filter) = options
        .extcap_capture_filter
        .as_deref()
        .filter(|f| !f.is_empty())
    {
        let parsed = filter.parse().map_err(|e| Failure::setup(&e))?;
        args.what.set_filter(parsed);
    }
    let stream = connect(Some(server))?;
    let (destination, _) = args.open()?.expect("a pipe was given");
    // Wireshark ends a capture by closing the pipe, or by a signal that ends this
    // process.
    match follow(stream, destination, &args, Limits::default()) {
        Err(ended) if ended.code() == 1 => {
            tracing::debug!("{ended}");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
