//! What a server tells of itself: `/debug/wirepath/counters` while it runs, the totals
//! at its end.

use serde_json::{Value, json};
use wirepath::Server;
use wirepath::metrics::Metrics;
use wirepath::runtime::{self, Handle};
use wirepath::see::Scene;
use wirepath_stack::Stack;

use super::ledger::{self, Entry};
use super::xdp::Card;
use crate::{device, site};

/// The stack and the card that a server is on.
#[derive(Clone)]
pub struct Below {
    /// The stack.
    pub stack: Stack,
    /// The card, with AF_XDP.
    pub card: Option<Card>,
}

impl Below {
    /// Where every frame went, from the card upwards and back.
    fn ledger(&self) -> Vec<Entry> {
        let stats = self.stack.stats();
        let queues = ledger::of_queues(&stats);
        let card = self.card.iter().flat_map(|card| card.ledger(&stats));
        card.chain(queues).collect()
    }
}

/// What the page and the control socket show: the server's runtime, the server, and the ledger.
pub fn scene(runtime: Handle, server: &Server, below: Option<&Below>) -> Scene {
    let scene = Scene::new(runtime).server(server.clone());
    match below.cloned() {
        None => scene,
        Some(below) => scene.ledger(move || below.ledger().iter().map(Entry::row).collect()),
    }
}

/// All counters, as JSON.
pub fn counters(server: Option<&Server>, below: Option<&Below>) -> Value {
    let mut all = json!({
        "network": if below.is_some() { "stack" } else { "kernel" },
        "server": server.map(|server| device::named(server.stats())),
        "runtime": device::named(runtime::metrics()),
        "long_runs": site::long_runs(),
    });
    if let Some(below) = below {
        let stats = below.stack.stats();
        let queues = stats.shards.iter().map(|shard| {
            let mut queue = device::object(|put| shard.each(put));
            queue["queue"] = shard.queue.clone().into();
            queue
        });
        all["queues"] = queues.collect();
        all["stack"] = device::object(|put| stats.each(put));
        all["ledger"] = below.ledger().iter().map(Entry::json).collect();
        if let Some(card) = &below.card {
            all["card"] = card.json();
        }
    }
    all
}

/// What `/metrics` tells beside the server and its runtime: the ledger, in
/// counters but for the places that frames go on from.
pub fn metrics(below: Option<Below>) -> Metrics {
    let Some(below) = below else {
        return Metrics::new();
    };
    let of = |counted: bool| {
        let below = below.clone();
        move || {
            let ledger = below.ledger();
            let numbers = ledger.iter().flat_map(|entry| entry.numbers(counted));
            numbers.collect()
        }
    };
    Metrics::new()
        .counters("frames", of(true))
        .gauges("frames", of(false))
}

/// What is printed at the end.
pub fn totals(server: &Server, below: Option<&Below>) -> String {
    let mut text = String::from("totals:\n");
    for (name, value) in server.stats() {
        text += &format!("  {name:<32} {value}\n");
    }
    let Some(below) = below else {
        return text;
    };
    if let Some(card) = &below.card {
        text += &format!("card: {}\n", card.given());
        for line in card.lines() {
            text += &format!("  {line}\n");
        }
    }
    text += "ledger of frames:\n";
    for entry in below.ledger() {
        text += &format!("  {}\n", entry.line());
    }
    text
}
