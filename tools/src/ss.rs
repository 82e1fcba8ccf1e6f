//! `wirepath ss`: the connections of a running server, as ss(8) lists those of
//! the kernel.

use std::fmt::Write;
use std::net::IpAddr;

use clap::Args;
use wirepath::see::Wanted;
use wirepath::see::state::Flow;

use crate::control::Client;
use crate::failure::Failure;

/// Connections that a filter is asked of at most.
const MAX_FLOWS: usize = 100_000;

/// Options of `wirepath ss`.
#[derive(Args)]
pub struct Options {
    /// The server: its process number, or the path of its control socket. By
    /// default the only one that is running.
    #[arg(value_name = "PID|PATH")]
    target: Option<String>,
    /// Show more of each: round-trip time, segments, bytes, request.
    #[arg(short, long)]
    info: bool,
    /// Only those in this state, by its name in RFC 9293 or ss's: `established`,
    /// `estab`, `close-wait`.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those with this port, at either end.
    #[arg(long)]
    port: Option<u16>,
    /// Only those with this address, at either end.
    #[arg(long, value_name = "ADDR")]
    addr: Option<IpAddr>,
    /// Connections at most, the busiest first.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    most: usize,
    /// Print JSON, a line for each.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut client = Client::find(options.target.as_deref())?;
    let wanted = Wanted {
        // A filter chooses among all, not among the busiest.
        flows: if options.filters() {
            MAX_FLOWS
        } else {
            options.most
        },
        goroutines: 0,
        requests: 0,
    };
    let state = client.state(&wanted)?;
    if state.network != "stack" {
        return Err(Failure::refused(
            "that server is on the kernel's sockets, which `ss -tip` shows",
        ));
    }
    let shown: Vec<&Flow> = state
        .flows
        .iter()
        .filter(|flow| options.shows(flow))
        .take(options.most)
        .collect();
    if options.json {
        for flow in shown {
            say!(
                "{}",
                serde_json::to_string(flow).map_err(|e| Failure::setup(&e))?
            );
        }
    } else {
        let matching = match options.filters() {
            true => state
                .flows
                .iter()
                .filter(|flow| options.shows(flow))
                .count(),
            false => state.flows_total,
        };
        let left = matching.saturating_sub(shown.len());
        say!("{}", table(&shown, options.info, left).trim_end());
    }
    Ok(())
}

impl Options {
    fn filters(&self) -> bool {
        self.state.is_some() || self.port.is_some() || self.addr.is_some()
    }

    fn shows(&self, flow: &Flow) -> bool {
        let (local, peer) = (split(&flow.local), split(&flow.peer));
        let has_port = |port: u16| [local.1, peer.1].contains(&port.to_string().as_str());
        let has_addr = |addr: IpAddr| [local.0, peer.0].contains(&addr.to_string().as_str());
        let names = [&flow.state, short(&flow.state)];
        let is_in = |state: &String| names.iter().any(|name| state.eq_ignore_ascii_case(name));
        self.state.as_ref().is_none_or(is_in)
            && self.port.is_none_or(has_port)
            && self.addr.is_none_or(has_addr)
    }
}

/// The state as ss(8) prints it.
pub fn short(state: &str) -> &str {
    match state {
        "ESTABLISHED" => "ESTAB",
        "SYN-RECEIVED" => "SYN-RECV",
        "CLOSED" => "UNCONN",
        other => other,
    }
}

/// Address and port; the address without brackets.
fn split(addr: &str) -> (&str, &str) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, ""));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

pub(crate) fn table(flows: &[&Flow], info: bool, left: usize) -> String {
    let mut text = format!(
        "{:<12} {:>6} {:>6} {:<24} {:<24} {:>6}\n",
        "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "fd"
    );
    for flow in flows {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<12} {:>6} {:>6} {:<24} {:<24} {:>6}",
            short(&flow.state),
            flow.recv_queue,
            flow.send_queue,
            flow.local,
            flow.peer,
            flow.fd
        );
        if info {
            let _ = writeln!(text, "\t{}", details(flow));
        }
    }
    if left > 0 {
        let _ = writeln!(
            text,
            "… and {left} connections that have moved less; see --most"
        );
    }
    text
}

/// In the manner of `ss -ti`; what is estimated is called so.
fn details(flow: &Flow) -> String {
    let mut words = Vec::new();
    if let (Some(rtt), Some(var)) = (flow.estimated_rtt_us, flow.estimated_rttvar_us) {
        words.push(format!("est-rtt:{}/{}", millis(rtt), millis(var)));
    }
    if let Some(least) = flow.estimated_min_rtt_us {
        words.push(format!("est-minrtt:{}", millis(least)));
    }
    words.push(format!("mss:{}", flow.mss));
    words.push(format!("unacked:{}B", flow.in_flight));
    words.push(format!("peer-wnd:{}", flow.peer_window));
    words.push(format!(
        "segs_out:{} segs_in:{}",
        flow.segments_out, flow.segments_in
    ));
    words.push(format!(
        "bytes_out:{} bytes_in:{}",
        flow.bytes_out, flow.bytes_in
    ));
    words.push(format!(
        "retrans:{} ooo:{}",
        flow.retransmits, flow.out_of_order
    ));
    words.push(format!("idle:{}ms age:{}ms", flow.idle_ms, flow.age_ms));
    words.extend(flow.goroutine.map(|g| format!("goroutine:{g}")));
    words.extend(
        flow.request
            .as_ref()
            .map(|request| format!("in «{request}»")),
    );
    words.join(" ")
}

/// Milliseconds with three digits, as ss has them.
fn millis(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            fd: 3,
            local: "10.0.0.2:80".to_owned(),
            peer: "[fd00::1]:40000".to_owned(),
            state: "ESTABLISHED".to_owned(),
            estimated_rtt_us: Some(1_234),
            estimated_rttvar_us: Some(5),
            request: Some("GET /".to_owned()),
            ..Flow::default()
        }
    }

    fn options() -> Options {
        Options {
            target: None,
            info: false,
            state: None,
            port: None,
            addr: None,
            most: 10,
            json: false,
        }
    }

    #[test]
    fn filters_choose() {
        let flow = flow();
        assert!(options().shows(&flow));
        let with = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.shows(&flow)
        };
        assert!(with(|o| o.port = Some(80)) && with(|o| o.port = Some(40000)));
        assert!(!with(|o| o.port = Some(8)));
        assert!(with(|o| o.state = Some("established".to_owned())));
        assert!(!with(|o| o.state = Some("close-wait".to_owned())));
        assert!(with(|o| o.state = Some("estab".to_owned())));
        assert!(with(|o| o.addr = Some("10.0.0.2".parse().unwrap())));
        assert!(with(|o| o.addr = Some("fd00::1".parse().unwrap())));
        assert!(!with(|o| o.addr = Some("10.0.0.3".parse().unwrap())));
    }

    #[test]
    fn what_is_estimated_is_called_so() {
        let flow = flow();
        let text = table(&[&flow], true, 2);
        assert!(text.contains("est-rtt:1.234/0.005"), "{text}");
        assert!(text.contains("in «GET /»"), "{text}");
        assert!(text.contains("and 2 connections"), "{text}");
    }
}
