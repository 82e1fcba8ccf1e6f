//! What is looked at: the tab, the selection, the filter, and the last states.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use wirepath::see::state::{Flow, Goroutine, Route, State};

use super::Rates;
use super::feed::News;

/// Rates that the sparkline shows at most.
const HISTORY: usize = 240;
/// Characters of a filter at most.
const MAX_FILTER: usize = 100;
/// How far Page Up and Page Down go, rows.
const PAGE: usize = 10;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Flows,
    Goroutines,
    Routes,
    Ledger,
    Requests,
}

impl Tab {
    pub const ALL: [(Tab, &str); 6] = [
        (Tab::Overview, "overview"),
        (Tab::Flows, "flows"),
        (Tab::Goroutines, "goroutines"),
        (Tab::Routes, "routes"),
        (Tab::Ledger, "ledger"),
        (Tab::Requests, "requests"),
    ];

    fn beside(self, steps: usize) -> Tab {
        let at = Tab::ALL.iter().position(|(tab, _)| *tab == self);
        Tab::ALL[(at.unwrap_or_default() + steps) % Tab::ALL.len()].0
    }

    /// What `s` sorts by, in turn.
    pub fn sorts(self) -> &'static [&'static str] {
        match self {
            Tab::Flows => &["rate", "send-q", "rtt", "retransmits", "age"],
            Tab::Goroutines => &["number", "waited", "state", "site"],
            Tab::Routes => &["rate", "p99", "errors"],
            Tab::Requests => &["newest", "longest"],
            Tab::Overview | Tab::Ledger => &["-"],
        }
    }
}

/// All of it.
pub struct App {
    pub state: Option<State>,
    pub rates: Option<Rates>,
    /// Requests a second, the newest last.
    pub history: VecDeque<u64>,
    /// Why the server does not answer.
    pub lost: Option<String>,
    /// How long there was no news that was due.
    pub silence: Option<Duration>,
    pub tab: Tab,
    pub selected: usize,
    /// The row that is looked at alone, by its identity.
    pub drilled: Option<u64>,
    pub sort: usize,
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    pub shows_help: bool,
    pub has_color: bool,
    pub is_done: bool,
}

impl App {
    pub fn new(has_color: bool) -> App {
        App {
            state: None,
            rates: None,
            history: VecDeque::new(),
            lost: None,
            silence: None,
            tab: Tab::Overview,
            selected: 0,
            drilled: None,
            sort: 0,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            shows_help: false,
            has_color,
            is_done: false,
        }
    }

    pub fn hear(&mut self, news: News) {
        match news {
            News::State(_) if self.is_paused => {}
            News::State(state) => self.take(*state),
            News::Lost(why) => self.lost = Some(why),
        }
    }

    pub fn take(&mut self, state: State) {
        self.lost = None;
        let before = self.state.as_ref();
        self.rates = before.and_then(|before| Rates::between(before, &state));
        match &self.rates {
            Some(rates) => self.history.push_back(rates.requests.round() as u64),
            None => self.history.clear(),
        }
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.state = Some(state);
    }

    pub fn press(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.is_done = true;
        } else if self.is_typing {
            self.type_filter(key.code);
        } else if self.shows_help {
            self.shows_help = false;
        } else {
            self.command(key.code);
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        self.selected = 0;
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < MAX_FILTER => self.filter.push(c),
            _ => {}
        }
    }

    fn command(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.is_done = true,
            KeyCode::Char('?') => self.shows_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort = (self.sort + 1) % self.tab.sorts().len(),
            KeyCode::Char('0') => self.go(Tab::Overview),
            KeyCode::Char(c @ '1'..='5') => {
                self.go(Tab::Overview.beside(c as usize - '0' as usize));
            }
            KeyCode::Tab => self.go(self.tab.beside(1)),
            KeyCode::BackTab => self.go(self.tab.beside(Tab::ALL.len() - 1)),
            KeyCode::Enter => self.drilled = self.selected_identity(),
            KeyCode::Esc if self.drilled.is_some() => self.drilled = None,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected += 1,
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            KeyCode::PageDown => self.selected += PAGE,
            KeyCode::Home => self.selected = 0,
            _ => {}
        }
    }

    fn go(&mut self, tab: Tab) {
        self.tab = tab;
        self.selected = 0;
        self.sort = 0;
        self.drilled = None;
    }

    /// The selected row, or the last, when keys came faster than frames.
    fn selected_identity(&self) -> Option<u64> {
        let identities: Vec<u64> = match self.tab {
            Tab::Flows => self.flows().iter().map(|flow| flow.flow).collect(),
            Tab::Goroutines => self.goroutines().iter().map(|g| g.g).collect(),
            _ => return None,
        };
        let selected = identities.get(self.selected);
        selected.or(identities.last()).copied()
    }

    /// What the list is sorted by.
    pub fn sorted_by(&self) -> &'static str {
        self.tab.sorts()[self.sort % self.tab.sorts().len()]
    }

    /// Whether a row has what is filtered by, in any case of letters.
    fn passes(&self, words: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty() || words.iter().any(|w| w.to_lowercase().contains(&wanted))
    }

    /// Bytes a second of a flow.
    pub fn flow_rate(&self, flow: &Flow) -> f64 {
        let rates = self.rates.as_ref();
        rates
            .and_then(|rates| rates.flows.get(&flow.flow))
            .copied()
            .unwrap_or_default()
    }

    /// Requests a second of a route.
    pub fn route_rate(&self, route: &Route) -> f64 {
        let rates = self.rates.as_ref();
        rates
            .and_then(|rates| rates.routes.get(&route.pattern))
            .copied()
            .unwrap_or_default()
    }

    /// The flows that the filter lets through, sorted.
    pub fn flows(&self) -> Vec<&Flow> {
        let all = self.state.iter().flat_map(|state| &state.flows);
        let mut flows: Vec<&Flow> = all
            .filter(|f| {
                let request = f.request.as_deref().unwrap_or_default();
                self.passes(&[&f.local, &f.peer, &f.state, request])
            })
            .collect();
        let key = |f: &Flow| match self.sorted_by() {
            "send-q" => f.send_queue as u64,
            "rtt" => f.estimated_rtt_us.unwrap_or_default(),
            "retransmits" => f.retransmits,
            "age" => f.age_ms,
            _ => self.flow_rate(f) as u64,
        };
        flows.sort_by_key(|f| (std::cmp::Reverse(key(f)), f.fd));
        flows
    }

    /// The goroutines that the filter lets through, sorted.
    pub fn goroutines(&self) -> Vec<&Goroutine> {
        let all = self.state.iter().flat_map(|state| &state.goroutines);
        let name = |g: &'_ Goroutine| g.name.clone().unwrap_or_default();
        let mut list: Vec<&Goroutine> = all
            .filter(|g| self.passes(&[&g.state, &g.site, &name(g), &g.g.to_string()]))
            .collect();
        match self.sorted_by() {
            "waited" => list.sort_by_key(|g| (std::cmp::Reverse(g.waited_s), g.g)),
            "state" => list.sort_by(|a, b| (&a.state, a.g).cmp(&(&b.state, b.g))),
            "site" => list.sort_by(|a, b| (&a.site, a.g).cmp(&(&b.site, b.g))),
            _ => list.sort_by_key(|g| g.g),
        }
        list
    }

    /// The routes that the filter lets through, sorted.
    pub fn routes(&self) -> Vec<&Route> {
        let all = self.state.iter().flat_map(|state| &state.routes);
        let mut routes: Vec<&Route> = all.filter(|r| self.passes(&[&r.pattern])).collect();
        let key = |r: &Route| match self.sorted_by() {
            "p99" => r.p99_us,
            "errors" => r.errors,
            _ => self.route_rate(r) as u64,
        };
        routes.sort_by_key(|r| (std::cmp::Reverse((key(r), r.count)), r.pattern.clone()));
        routes
    }

    /// The last requests that the filter lets through, sorted.
    pub fn requests(&self) -> Vec<&wirepath::see::journey::Journey> {
        let all = self.state.iter().flat_map(|state| &state.requests).rev();
        let mut list: Vec<_> = all
            .filter(|r| self.passes(&[&r.request, &r.route, &r.peer, &r.status.to_string()]))
            .collect();
        if self.sorted_by() == "longest" {
            list.sort_by_key(|r| std::cmp::Reverse(r.total_ns()));
        }
        list
    }
}
