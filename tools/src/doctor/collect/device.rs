//! The device behind an interface: its driver, NUMA node, interrupts.
//!
//! From `/sys/bus`, which is the machine's, not from `/sys/class/net`, which
//! shows the network namespace that it was mounted in.

use std::fs;
use std::path::{Path, PathBuf};

/// A device's folder in sysfs.
#[derive(Debug)]
pub struct Device(PathBuf);

impl Device {
    /// The device that rtnetlink names with its bus.
    pub fn find(bus: &str, name: &str) -> Option<Device> {
        // Both are one component of a path, whoever sent them.
        let plain = |part: &str| !part.is_empty() && !part.contains('/') && part != "..";
        if !plain(bus) || !plain(name) {
            return None;
        }
        let link = Path::new("/sys/bus").join(bus).join("devices").join(name);
        fs::canonicalize(link).ok().map(Device)
    }

    /// The name of its driver.
    pub fn driver(&self) -> Option<String> {
        let driver = fs::read_link(self.0.join("driver")).ok()?;
        Some(driver.file_name()?.to_str()?.to_owned())
    }

    /// Its NUMA node, or that of the device it is part of (a virtio device is
    /// part of one on PCI).
    pub fn numa_node(&self) -> Option<u32> {
        let nodes = self.0.ancestors().map(|dir| read(dir.join("numa_node")));
        // -1 is what the kernel writes where it does not know.
        nodes.flatten().next()?.parse().ok()
    }

    /// Its virtual functions that are on (SR-IOV).
    pub fn virtual_functions(&self) -> Option<u32> {
        read(self.0.join("sriov_numvfs"))?.parse().ok()
    }

    /// The interrupts of the device, or of the one that it is part of.
    pub fn irqs(&self) -> Vec<u32> {
        let folders = self.0.ancestors().map(|dir| dir.join("msi_irqs"));
        let Some(entries) = folders.filter_map(|dir| fs::read_dir(dir).ok()).next() else {
            return Vec::new();
        };
        let mut irqs: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        irqs.sort_unstable();
        irqs
    }
}

/// The version that a driver's module states.
pub fn module_version(driver: &str) -> Option<String> {
    if driver.contains('/') {
        return None;
    }
    read(Path::new("/sys/module").join(driver).join("version"))
}

/// The processors that take an interrupt.
pub fn irq_cpus(irq: u32) -> Option<Vec<u32>> {
    let dir = PathBuf::from(format!("/proc/irq/{irq}"));
    let effective = read(dir.join("effective_affinity_list")).filter(|list| !list.is_empty());
    let list = effective.or_else(|| read(dir.join("smp_affinity_list")))?;
    Some(parse_cpus(&list))
}

/// A list as the kernel writes it: `0-3,8`. What is not a number is left out.
pub fn parse_cpus(list: &str) -> Vec<u32> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// A file's text without the space around it.
pub fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        for (list, want) in [
            ("0-3,8\n", vec![0, 1, 2, 3, 8]),
            ("5", vec![5]),
            ("", vec![]),
            ("x,2", vec![2]),
            ("3-1", vec![]),
        ] {
            assert_eq!(parse_cpus(list), want, "{list:?}");
        }
    }

    #[test]
    fn a_name_that_leaves_its_folder_is_no_device() {
        assert!(Device::find("pci", "../../class").is_none());
        assert!(Device::find("..", "net").is_none());
        assert!(Device::find("", "").is_none());
    }
}
