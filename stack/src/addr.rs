//! Addresses as people write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address with the length of its network's prefix: `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address.
    pub addr: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAddrError {
    /// Not an address and a prefix.
    #[error("«{0}» is not an address with a prefix length, such as 10.0.0.2/24 or fd00::2/64")]
    Cidr(String),
    /// A prefix longer than the address.
    #[error("the prefix length of «{0}» is more than the {1} bits of the address")]
    Prefix(String, u8),
    /// Not a MAC address.
    #[error("«{0}» is not a MAC address such as 02:00:00:00:00:02")]
    Mac(String),
}

impl Cidr {
    /// Whether a host can have the address in its network: not one of a group,
    /// of loopback, of nobody, and not one of the two that stand for an IPv4
    /// network and all of its hosts (RFC 1122 §3.2.1.3), nor an IPv6 network's
    /// routers' (RFC 4291 §2.6.1). Links of two hosts have no such address.
    pub fn is_host(&self) -> bool {
        let addr = self.addr;
        if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
            return false;
        }
        match addr {
            IpAddr::V4(addr) => {
                let host_bits = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                let host = addr.to_bits() & host_bits;
                let is_named = self.prefix >= 31 || (host != 0 && host != host_bits);
                is_named && !addr.is_broadcast()
            }
            IpAddr::V6(addr) => {
                let host_bits = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                self.prefix >= 127 || addr.to_bits() & host_bits != 0
            }
        }
    }

    /// Whether `other` is in the network of this address.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseAddrError;
    fn from_str(s: &str) -> Result<Cidr, ParseAddrError> {
        let bad = || ParseAddrError::Cidr(s.to_owned());
        let (addr, prefix) = s.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(ParseAddrError::Prefix(s.to_owned(), bits));
        }
        Ok(Cidr { addr, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether one station can have this address: neither a group address nor
    /// all zero.
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddr {
    type Err = ParseAddrError;
    fn from_str(s: &str) -> Result<MacAddr, ParseAddrError> {
        let bad = || ParseAddrError::Mac(s.to_owned());
        let mut bytes = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut bytes {
            let two_digits = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(two_digits).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        parts
            .next()
            .is_none()
            .then_some(MacAddr(bytes))
            .ok_or_else(bad)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_parse_and_contain() {
        let net: Cidr = "10.0.0.2/24".parse().unwrap();
        assert!(net.contains("10.0.0.255".parse().unwrap()));
        assert!(!net.contains("10.0.1.2".parse().unwrap()));
        assert!(!net.contains("fd00::1".parse().unwrap()));
        let all: Cidr = "fd00::2/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert_eq!(all.to_string(), "fd00::2/0");
        for bad in [
            "10.0.0.2",
            "10.0.0.2/33",
            "fd00::/129",
            "x/8",
            "10.0.0.2/-1",
            "",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_no_address_that_stands_for_others() {
        for (cidr, want) in [
            ("10.0.0.2/24", true),
            ("10.0.0.0/24", false),
            ("10.0.0.255/24", false),
            ("10.0.1.0/23", true),
            ("10.0.0.0/31", true),
            ("10.0.0.0/32", true),
            ("0.0.0.0/0", false),
            ("255.255.255.255/32", false),
            ("224.0.0.1/24", false),
            ("127.0.0.1/8", false),
            ("fd00::2/64", true),
            ("fd00::/64", false),
            ("fd00::/127", true),
            ("::1/128", false),
            ("ff02::1/64", false),
        ] {
            assert_eq!(cidr.parse::<Cidr>().unwrap().is_host(), want, "{cidr}");
        }
    }

    #[test]
    fn macs_parse() {
        let mac: MacAddr = "02:00:5e-00:0a:Ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:00:0a:ff");
        assert!(mac.is_station() && !MacAddr::BROADCAST.is_station());
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:0",
            "+2:00:00:00:00:00",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
