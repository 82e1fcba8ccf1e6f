//! Which frames are ours, as the operator says it.

use std::net::IpAddr;

/// Addresses at most: the program compares them one after the other.
pub const ADDRS_MAX: usize = 64;

/// Ports at most. The program finds a port by halving, so this bounds its
/// length (about two instructions a port), not its time.
pub const PORTS_MAX: usize = 1024;

/// Which frames are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The server's addresses.
    pub addrs: Vec<IpAddr>,
    /// Whether they are ours alone.
    pub deploy: Deployment,
}

/// Whose the addresses are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// Ours alone: the kernel does not have them, and we answer ARP and NDP.
    Own {
        /// The TCP and UDP ports that are ours; None for all of them. The
        /// kernel gets the others.
        ports: Option<Vec<u16>>,
    },
    /// The host's: it keeps ARP, NDP, ICMP and every other port.
    Shared {
        /// The TCP and UDP ports that are ours.
        ports: Vec<u16>,
    },
}

impl Rules {
    /// Addresses of ours alone, all ports.
    pub fn own(addrs: impl IntoIterator<Item = IpAddr>) -> Rules {
        Rules {
            addrs: addrs.into_iter().collect(),
            deploy: Deployment::Own { ports: None },
        }
    }

    /// The host's addresses, of which these ports are ours.
    pub fn shared(
        addrs: impl IntoIterator<Item = IpAddr>,
        ports: impl IntoIterator<Item = u16>,
    ) -> Rules {
        Rules {
            addrs: addrs.into_iter().collect(),
            deploy: Deployment::Shared {
                ports: ports.into_iter().collect(),
            },
        }
    }

    /// The ports, or None for all of them.
    pub fn ports(&self) -> Option<&[u16]> {
        match &self.deploy {
            Deployment::Own { ports } => ports.as_deref(),
            Deployment::Shared { ports } => Some(ports),
        }
    }

    /// Whether the addresses are the host's too.
    pub fn is_shared(&self) -> bool {
        matches!(self.deploy, Deployment::Shared { .. })
    }

    /// Whether they can be what somebody means.
    ///
    /// # Errors
    /// The first fault that is found.
    pub fn check(&self) -> Result<(), RulesFault> {
        if self.addrs.is_empty() {
            return Err(RulesFault::NoAddress);
        }
        if self.addrs.len() > ADDRS_MAX {
            return Err(RulesFault::ManyAddresses(self.addrs.len()));
        }
        if let Some(addr) = self.addrs.iter().find(|addr| !is_a_hosts(addr)) {
            return Err(RulesFault::Address(*addr));
        }
        match self.ports() {
            Some([]) => Err(RulesFault::NoPort),
            Some(ports) if ports.len() > PORTS_MAX => Err(RulesFault::ManyPorts(ports.len())),
            Some(ports) if ports.contains(&0) => Err(RulesFault::PortZero),
            _ => Ok(()),
        }
    }
}

/// Whether a host can have the address.
fn is_a_hosts(addr: &IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    !(addr.is_unspecified() || addr.is_multicast() || broadcast)
}

/// What is wrong with [`Rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesFault {
    /// Nothing could be ours.
    #[error("there is no address to serve; give one with --addr, or the host's with --share-host")]
    NoAddress,
    /// More than [`ADDRS_MAX`].
    #[error("{0} addresses are more than the {ADDRS_MAX} that the program looks for; give fewer")]
    ManyAddresses(usize),
    /// One that no host has.
    #[error("{0} cannot be a server's address; give one that a single host can have")]
    Address(IpAddr),
    /// An empty list.
    #[error("the list of ports is empty, so nothing would be ours; name them with --ports")]
    NoPort,
    /// More than [`PORTS_MAX`].
    #[error("{0} ports are more than the {PORTS_MAX} that the program looks for; give fewer")]
    ManyPorts(usize),
    /// Port 0.
    #[error("port 0 is no port that a peer can send to; leave it out of --ports")]
    PortZero,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let ours = addr("10.0.0.2");
        let table = [
            (Rules::own([ours]), Ok(())),
            (Rules::own([]), Err(RulesFault::NoAddress)),
            (Rules::own([ours; 65]), Err(RulesFault::ManyAddresses(65))),
            (Rules::shared([ours], [80, 443]), Ok(())),
            (Rules::shared([ours], []), Err(RulesFault::NoPort)),
            (Rules::shared([ours], [80, 0]), Err(RulesFault::PortZero)),
            (
                Rules::shared([ours], 1..=1025),
                Err(RulesFault::ManyPorts(1025)),
            ),
        ];
        for (rules, want) in table {
            assert_eq!(rules.check(), want, "{rules:?}");
        }
    }

    #[test]
    fn an_address_is_one_of_a_single_host() {
        for bad in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let rules = Rules::own([addr("10.0.0.2"), addr(bad)]);
            assert_eq!(rules.check(), Err(RulesFault::Address(addr(bad))));
        }
        for good in ["127.0.0.1", "fe80::2", "192.0.2.1", "fd00::2"] {
            assert_eq!(Rules::own([addr(good)]).check(), Ok(()));
        }
    }
}
