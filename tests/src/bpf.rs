//! What of BPF there is on an interface, as `ip` and `bpftool` tell.
//!
//! Ids are the machine's: other tests make and end programs meanwhile, so a
//! test looks for those that it has seen, not for how many there are.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, SERVER_END};
use crate::netns::Netns;
use crate::process::{self, run};

/// A program that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The kernel's number of it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `driver` or `generic`.
    pub mode: &'static str,
}

/// The XDP program of an interface.
///
/// # Panics
/// If there is no such interface.
#[track_caller]
pub fn attached(net: &Netns, interface: &str) -> Option<Attached> {
    let shown = net.ip(&format!("-j -d link show dev {interface}"));
    let shown: Value = serde_json::from_str(&shown).expect("ip prints JSON");
    let xdp = shown[0].get("xdp")?;
    let program = xdp.get("prog")?;
    Some(Attached {
        id: program["id"].as_u64()?,
        name: program["name"].as_str().unwrap_or_default().to_owned(),
        // IFLA_XDP_ATTACHED of linux/if_link.h.
        mode: if xdp["mode"] == 2 {
            "generic"
        } else {
            "driver"
        },
    })
}

/// Programs, maps and links, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u64>,
    /// Maps.
    pub maps: BTreeSet<u64>,
    /// Links.
    pub links: BTreeSet<u64>,
}

impl Objects {
    /// The program with this number, its maps and its links.
    pub fn of_program(id: u64) -> Objects {
        let programs = list("prog");
        let program = programs.iter().find(|program| program["id"] == id);
        let maps = program.and_then(|program| program["map_ids"].as_array());
        let links = list("link");
        let links = links.iter().filter(|link| link["prog_id"] == id);
        Objects {
            programs: program.and_then(|p| p["id"].as_u64()).into_iter().collect(),
            maps: maps
                .into_iter()
                .flatten()
                .filter_map(Value::as_u64)
                .collect(),
            links: links.filter_map(|link| link["id"].as_u64()).collect(),
        }
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Objects) {
        self.programs.extend(other.programs);
        self.maps.extend(other.maps);
        self.links.extend(other.links);
    }

    /// Those of them that there still are.
    pub fn living(&self) -> Objects {
        let living = |kind: &str, ids: &BTreeSet<u64>| {
            let now = list(kind);
            let now = now.iter().filter_map(|object| object["id"].as_u64());
            now.filter(|id| ids.contains(id)).collect()
        };
        Objects {
            programs: living("prog", &self.programs),
            maps: living("map", &self.maps),
            links: living("link", &self.links),
        }
    }
}

/// All objects of a kind on the machine.
#[track_caller]
fn list(kind: &str) -> Vec<Value> {
    let mut bpftool = Command::new("bpftool");
    // An object may end between being listed and being looked at, which
    // bpftool tells as an error beside the others.
    let said = run(bpftool.args(["-j", kind, "show"])).text();
    let listed = serde_json::from_str(said.lines().next().unwrap_or_default());
    match listed {
        Ok(Value::Array(all)) => all,
        other => panic!("bpftool {kind} show: {other:?} of {said:?}"),
    }
}

/// Attaches a program of somebody else's, which passes every frame, to the
/// server's end.
///
/// # Panics
/// If it cannot be made or attached.
#[track_caller]
pub fn attach_another(lab: &Lab) -> Attached {
    let source = lab.dir().join("another.c");
    let object = lab.dir().join("another.o");
    // 2 is XDP_PASS of linux/bpf.h.
    let text = "__attribute__((section(\"xdp\"), used)) int another(void *ctx) { return 2; }\n";
    std::fs::write(&source, text).expect("the lab's folder is writable");
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-target", "bpf", "-c"]).arg(&source);
    process::run(clang.arg("-o").arg(&object)).ok();
    let object = object.display();
    let net = lab.server_net();
    net.ip(&format!(
        "link set dev {SERVER_END} xdp obj {object} sec xdp"
    ));
    attached(net, SERVER_END).expect("it was attached")
}
