//! Drawing: an [`App`] as a frame of any size.

use std::fmt::Write;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};
use wirepath::see::journey::Journey;
use wirepath::see::state::{Flow, Goroutine, Queue, State};

use super::Rates;
use super::app::{App, Tab};
use super::rates::{QueueRates, count};
use crate::ss;

/// Columns of a bar.
const BAR: usize = 10;
const HELP: &str = "\
0        overview
1 … 5    flows, goroutines, routes, ledger, requests; Tab: the next
↑ ↓ j k  select; Page Up, Page Down, Home
Enter    only the selected flow or goroutine; Esc: back
/        filter; Enter: keep it, Esc: none
s        sort by the next column
p        pause, and go on
q        quit

Rates are of the last interval, latencies of what the flight recorder holds.
What is estimated from segments is called so.";

/// Draws the frame.
pub fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let rows = match app.tab {
        Tab::Overview | Tab::Ledger => usize::MAX,
        Tab::Flows => app.flows().len(),
        Tab::Goroutines => app.goroutines().len(),
        Tab::Routes => app.routes().len(),
        Tab::Requests => app.requests().len(),
    };
    app.selected = app.selected.min(rows.saturating_sub(1));
    let app = &*app;
    frame.render_widget(Paragraph::new(header(app)), head);
    match &app.state {
        Some(state) => draw_tab(frame, body, app, state),
        None => frame.render_widget(Paragraph::new("waiting for the server …"), body),
    }
    frame.render_widget(Paragraph::new(footer(app)), foot);
    if app.shows_help {
        let block = Block::bordered().title(" keys (any key: back) ");
        frame.render_widget(Clear, body);
        let help = Paragraph::new(HELP).wrap(Wrap { trim: false });
        frame.render_widget(help.block(block), body);
    }
}

fn draw_tab(frame: &mut Frame<'_>, area: Rect, app: &App, state: &State) {
    match app.tab {
        Tab::Overview => overview(frame, area, app, state),
        Tab::Flows => flows(frame, area, app),
        Tab::Goroutines => goroutines(frame, area, app, state),
        Tab::Routes => table(frame, area, app, ROUTES, &ROUTE_WIDTHS, route_rows(app)),
        Tab::Ledger => frame.render_widget(Paragraph::new(ledger(app, state)), area),
        Tab::Requests => requests(frame, area, app),
    }
}

fn header(app: &App) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut first = String::from("wirepath top");
    let mut second = String::new();
    if let Some(state) = &app.state {
        let rates = app.rates.clone().unwrap_or_default();
        let _ = write!(
            first,
            "  pid {}  up {}  {}  {} connections",
            state.pid,
            span(state.uptime_s),
            if state.network == "stack" {
                "stack of its own"
            } else {
                "the kernel's sockets"
            },
            open_connections(state),
        );
        let _ = write!(
            second,
            "{} requests/s  {} in flight  {} errors/s  {} in all",
            amount(rates.requests),
            state.in_flight,
            amount(rates.errors),
            count(&state.http, "requests"),
        );
    }
    let tabs = Tab::ALL
        .iter()
        .enumerate()
        .map(|(n, (tab, name))| match *tab == app.tab {
            true => format!("[{n} {name}]"),
            false => format!(" {n} {name} "),
        });
    vec![
        Line::styled(first, bold),
        Line::raw(second),
        Line::raw(tabs.collect::<String>()),
    ]
}

fn open_connections(state: &State) -> u64 {
    count(&state.http, "connections_open").max(state.flows_total as u64)
}

fn footer(app: &App) -> Line<'static> {
    let alarm = Style::new().add_modifier(Modifier::REVERSED);
    if let Some(why) = &app.lost {
        return Line::styled(format!("waiting (q: quit): {why}"), alarm);
    }
    if let Some(silence) = app.silence {
        let text = format!("waiting (q: quit): no answer for {} s", silence.as_secs());
        return Line::styled(text, alarm);
    }
    if app.is_typing {
        return Line::raw(format!("filter: {}_", app.filter));
    }
    let mut text = String::from("?: help  q: quit");
    if app.tab.sorts().len() > 1 {
        let _ = write!(text, "  s: by {}", app.sorted_by());
    }
    if !app.filter.is_empty() {
        let _ = write!(text, "  filter: {}", app.filter);
    }
    match app.is_paused {
        true => Line::styled(format!("PAUSED (p)  {text}"), alarm),
        false => Line::raw(text),
    }
}

fn overview(frame: &mut Frame<'_>, area: Rect, app: &App, state: &State) {
    let rates = app.rates.clone().unwrap_or_default();
    let mut lines = queue_lines(state, &rates);
    lines.extend(proc_lines(state, &rates));
    lines.push(sched_line(state, &rates));
    lines.push(reasons(state));
    lines.extend(route_lines(app));
    let text_len = (lines.len() as u16).min(area.height);
    let [text, spark] =
        Layout::vertical([Constraint::Length(text_len), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(lines.join("\n")), text);
    let spark = Rect {
        height: spark.height.min(16),
        ..spark
    };
    if spark.height >= 3 {
        let newest = app
            .history
            .len()
            .saturating_sub(spark.width.saturating_sub(2).into());
        let history: Vec<u64> = app.history.iter().skip(newest).copied().collect();
        let most = history.iter().max().copied().unwrap_or_default();
        let block = Block::bordered().title(format!(" requests/s, at most {most} "));
        let style = Style::new().fg(if app.has_color {
            Color::Cyan
        } else {
            Color::Reset
        });
        frame.render_widget(
            Sparkline::default().data(history).style(style).block(block),
            spark,
        );
    }
}

fn queue_lines(state: &State, rates: &Rates) -> Vec<String> {
    let none = QueueRates::default();
    let mut lines = Vec::new();
    for (n, queue) in state.queues.iter().enumerate() {
        let rate = rates.queues.get(n).unwrap_or(&none);
        lines.push(format!(
            "{}  in {} frames/s {}B/s  out {} frames/s {}B/s  resent {}/s",
            queue.name,
            amount(rate.rx_frames),
            amount(rate.rx_bytes),
            amount(rate.tx_frames),
            amount(rate.tx_bytes),
            amount(rate.retransmits),
        ));
        lines.push(format!("  {}", fills(queue)));
        if !queue.drops.is_empty() {
            let drops = queue.drops.iter().map(|(cause, n)| format!("{cause} {n}"));
            let drops: Vec<String> = drops.collect();
            lines.push(format!(
                "  drops {}/s: {}",
                amount(rate.drops),
                drops.join(", ")
            ));
        }
    }
    lines
}

fn fills(queue: &Queue) -> String {
    let rings = queue.rings.iter().map(|r| (r.name.as_str(), r.used, r.len));
    let used = queue.pool_frames.saturating_sub(queue.pool_free);
    let all = rings.chain([("pool", used, queue.pool_frames)]);
    let all = all.map(|(name, used, len)| format!("{name} {} {used}/{len}", bar(used, len)));
    all.collect::<Vec<_>>().join("  ")
}

/// How full something is.
fn bar(used: usize, len: usize) -> String {
    let full = (used * BAR).checked_div(len).unwrap_or_default().min(BAR);
    // A little is not nothing.
    let full = full.max(usize::from(used > 0));
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

fn proc_lines(state: &State, rates: &Rates) -> Vec<String> {
    // Spare P's count only while somebody holds them.
    let shown = state
        .procs
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.spare || p.m.is_some());
    let line = |(n, p): (usize, &wirepath::see::state::Proc)| {
        let ran = rates.procs.get(n).copied().unwrap_or_default();
        let holder = p.m.map_or("idle".to_owned(), |m| format!("M{m}"));
        let runs = p.g.map_or(String::new(), |g| format!("runs goroutine {g}"));
        let spare = if p.spare { " (spare)" } else { "" };
        format!(
            "P{:<3} {holder:<5} queue {:<5} {:>8} runs/s  {runs}{spare}",
            p.p,
            p.queue,
            amount(ran)
        )
    };
    shown.map(line).collect()
}

fn sched_line(state: &State, rates: &Rates) -> String {
    let rate = |name: &str| amount(rates.sched.get(name).copied().unwrap_or_default());
    format!(
        "scheduler: global queue {}  steals {}/s  parks {}/s  hand-offs {}/s  wait p50 {}  p99 {}",
        state.global_queue,
        rate("steals"),
        rate("parks"),
        rate("handoffs"),
        micros(count(&state.sched, "sched_latency_p50_us")),
        micros(count(&state.sched, "sched_latency_p99_us")),
    )
}

fn reasons(state: &State) -> String {
    let mut reasons: Vec<_> = state.by_reason.iter().collect();
    reasons.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
    let words: Vec<String> = reasons
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    format!(
        "goroutines {}: {}",
        state.goroutines_total,
        words.join(", ")
    )
}

fn route_lines(app: &App) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<32} {:>9} {:>8} {:>8} {:>8}",
        "route", "req/s", "p50", "p90", "p99"
    )];
    let routes = app.routes();
    lines.extend(routes.iter().take(6).map(|r| {
        format!(
            "{:<32} {:>9} {:>8} {:>8} {:>8}",
            cut(&r.pattern, 32),
            amount(app.route_rate(r)),
            micros(r.p50_us),
            micros(r.p90_us),
            micros(r.p99_us)
        )
    }));
    lines
}

const FLOWS: &[&str] = &[
    "fd", "state", "peer", "recv-q", "send-q", "est.rtt", "B/s", "resent", "request",
];
/// Columns of each; 0: what is left.
const FLOW_WIDTHS: [u16; 9] = [5, 10, 21, 6, 6, 7, 6, 6, 0];
const ROUTES: &[&str] = &["req/s", "count", "5xx", "p50", "p90", "p99", "max", "route"];
const ROUTE_WIDTHS: [u16; 8] = [8, 10, 7, 8, 8, 8, 8, 0];
const GOROUTINES: &[&str] = &["number", "waited", "state", "name", "started at"];
const GOROUTINE_WIDTHS: [u16; 5] = [8, 7, 14, 14, 0];
const REQUESTS: &[&str] = &["time", "status", "peer", "request"];
const REQUEST_WIDTHS: [u16; 4] = [9, 6, 21, 0];

fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    names: &[&'static str],
    widths: &[u16],
    rows: Vec<Vec<String>>,
) {
    let head = Row::new(names.to_vec()).style(Style::new().add_modifier(Modifier::BOLD));
    let widths = widths.iter().map(|w| match w {
        0 => Constraint::Fill(1),
        w => Constraint::Length(*w),
    });
    let table = Table::new(rows.into_iter().map(Row::new), widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selected = TableState::default().with_selected(Some(app.selected));
    frame.render_stateful_widget(table, area, &mut selected);
}

fn route_rows(app: &App) -> Vec<Vec<String>> {
    let row = |r: &&wirepath::see::state::Route| {
        vec![
            amount(app.route_rate(r)),
            r.count.to_string(),
            r.errors.to_string(),
            micros(r.p50_us),
            micros(r.p90_us),
            micros(r.p99_us),
            micros(r.max_us),
            r.pattern.clone(),
        ]
    };
    app.routes().iter().map(row).collect()
}

fn flows(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let flows = app.flows();
    if let Some(wanted) = app.drilled {
        let text = match flows.iter().find(|f| f.flow == wanted) {
            Some(flow) => flow_text(flow, app.flow_rate(flow)),
            None => "this connection is gone (Esc: back)".to_owned(),
        };
        return frame.render_widget(Paragraph::new(text), area);
    }
    let row = |f: &&Flow| {
        vec![
            f.fd.to_string(),
            ss::short(&f.state).to_owned(),
            f.peer.clone(),
            f.recv_queue.to_string(),
            f.send_queue.to_string(),
            f.estimated_rtt_us.map_or("-".to_owned(), micros),
            amount(app.flow_rate(f)),
            f.retransmits.to_string(),
            f.request.clone().unwrap_or_default(),
        ]
    };
    table(
        frame,
        area,
        app,
        FLOWS,
        &FLOW_WIDTHS,
        flows.iter().map(row).collect(),
    );
}

fn flow_text(f: &Flow, rate: f64) -> String {
    let or_none = |us: Option<u64>| us.map_or("none yet".to_owned(), micros);
    format!(
        "fd {}  {} -> {}  {}  queue {}\n\n\
         receive  {} of {} bytes wait to be read\n\
         send     {} of {} bytes not acknowledged or not sent, {} in flight\n\
         window   {} bytes, as the peer announced; mss {}\n\
         rtt      estimated {} (deviation {}), least {}\n\
         segments {} in, {} out, {} resent, {} left a gap\n\
         bytes    {} in, {} out, {}B/s\n\
         age      {}  heard {} ago\n\
         serves   {}{}",
        f.fd,
        f.local,
        f.peer,
        f.state,
        f.queue,
        f.recv_queue,
        f.recv_buffer,
        f.send_queue,
        f.send_buffer,
        f.in_flight,
        f.peer_window,
        f.mss,
        or_none(f.estimated_rtt_us),
        or_none(f.estimated_rttvar_us),
        or_none(f.estimated_min_rtt_us),
        f.segments_in,
        f.segments_out,
        f.retransmits,
        f.out_of_order,
        f.bytes_in,
        f.bytes_out,
        amount(rate),
        span(f.age_ms as f64 / 1e3),
        span(f.idle_ms as f64 / 1e3),
        f.request.as_deref().unwrap_or("no request"),
        f.goroutine
            .map_or(String::new(), |g| format!(", goroutine {g}")),
    )
}

fn goroutines(frame: &mut Frame<'_>, area: Rect, app: &App, state: &State) {
    let list = app.goroutines();
    if let Some(wanted) = app.drilled {
        let text = match list.iter().find(|g| g.g == wanted) {
            Some(g) => goroutine_text(g, state),
            None => "this goroutine is gone (Esc: back)".to_owned(),
        };
        return frame.render_widget(Paragraph::new(text), area);
    }
    let [by, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(reasons(state)), by);
    let row = |g: &&Goroutine| {
        let name = g.name.clone().unwrap_or_default();
        vec![
            g.g.to_string(),
            format!("{} s", g.waited_s),
            g.state.clone(),
            name,
            g.site.clone(),
        ]
    };
    table(
        frame,
        rest,
        app,
        GOROUTINES,
        &GOROUTINE_WIDTHS,
        list.iter().map(row).collect(),
    );
}

fn goroutine_text(g: &Goroutine, state: &State) -> String {
    let flow = state
        .flows
        .iter()
        .find(|flow| g.flow != 0 && flow.flow == g.flow);
    let creator = match g.creator {
        0 => "a plain thread".to_owned(),
        n => format!("goroutine {n}"),
    };
    format!(
        "goroutine {} [{}] {}\n\nwaited   {} s\nflow     {}\nstack    {} bytes used\nbound to {}\nstarted  {} by {creator}",
        g.g,
        g.state,
        g.name.as_deref().unwrap_or_default(),
        g.waited_s,
        flow.map_or("none that is listed".to_owned(), |f| format!(
            "{} -> {}",
            f.local, f.peer
        )),
        g.stack,
        g.bound_to
            .map_or("no thread".to_owned(), |m| format!("M{m}")),
        g.site,
    )
}

fn ledger(app: &App, state: &State) -> String {
    if state.ledger.is_empty() {
        return "no ledger: over the kernel's sockets frames are the kernel's".to_owned();
    }
    let mut text = String::new();
    for row in state
        .ledger
        .iter()
        .skip(app.selected.min(state.ledger.len() - 1))
    {
        let parts: Vec<String> = row
            .parts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<20} {:>12} = {}",
            row.place,
            row.total,
            parts.join(" + ")
        );
        if row.unaccounted != 0 {
            let _ = writeln!(text, "{:>35} unaccounted for", row.unaccounted);
        }
    }
    text
}

fn requests(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let list = app.requests();
    let [rows, below] =
        Layout::vertical([Constraint::Percentage(45), Constraint::Min(0)]).areas(area);
    let row = |r: &&Journey| {
        let time = micros(r.total_ns() / 1000);
        vec![
            time,
            r.status.to_string(),
            r.peer.clone(),
            r.request.clone(),
        ]
    };
    table(
        frame,
        rows,
        app,
        REQUESTS,
        &REQUEST_WIDTHS,
        list.iter().map(row).collect(),
    );
    let block = Block::bordered().title(" where its time went ");
    let width = usize::from(below.width.saturating_sub(2));
    let text = list.get(app.selected).map_or_else(
        || "none: is the server's --recorder off?".to_owned(),
        |journey| waterfall(journey, width),
    );
    frame.render_widget(Paragraph::new(text).block(block), below);
}

/// A line for each hop, its bar where its time was.
fn waterfall(journey: &Journey, width: usize) -> String {
    let bar_width = width.saturating_sub(55).max(10);
    let total = journey.total_ns().max(1);
    let column = |at: u64| {
        let from_start = u128::from(at.saturating_sub(journey.start));
        ((from_start * bar_width as u128 / u128::from(total)) as usize).min(bar_width)
    };
    let mut text = String::new();
    for hop in &journey.hops {
        let (from, to) = (column(hop.from_ns), column(hop.to_ns));
        let from = from.min(bar_width - 1);
        let bar = format!(
            "{}{}",
            " ".repeat(from),
            "#".repeat((to.max(from + 1)) - from)
        );
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<43} {:>8} |{bar:<bar_width$}| {}",
            hop.kind.words(),
            micros(hop.len_ns() / 1000),
            hop.note
        );
    }
    text
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// `950`, `12.3k`, `4.5M`.
fn amount(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// `950µs`, `12.3ms`, `4.5s`.
fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// `0.5s`, `3m20s`, `5h03m`.
fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests;
