//! Why a received frame goes no further.

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a received frame was dropped before any socket saw it. Each cause
        /// has a counter of its own, found by [`DropCause::index`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum DropCause {
            $($(#[$doc])* $variant,)*
        }

        impl DropCause {
            /// Every cause, in the order of [`DropCause::index`].
            pub(crate) const ALL: &'static [DropCause] = &[$(DropCause::$variant,)*];

            /// How counters name it: lower case, words joined by underscores.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(DropCause::$variant => $name,)*
                }
            }
        }
    };
}

causes! {
    /// Shorter than its headers, or than the length that they give.
    Truncated => "truncated",
    /// Longer than a frame with the longest IP packet.
    Oversized => "oversized",
    /// Tagged for a VLAN.
    Vlan => "vlan",
    /// Neither IPv4, IPv6 nor ARP.
    UnknownEthertype => "unknown_ethertype",
    /// For another station, or a group that we are not in.
    ForeignMac => "foreign_mac",
    /// From a group's address or from all zero.
    BadSourceMac => "bad_source_mac",
    /// From our own Ethernet address: the network looped it back.
    OwnSourceMac => "own_source_mac",
    /// The IP version is not that of the EtherType.
    BadVersion => "bad_version",
    /// Length fields that contradict each other.
    BadLength => "bad_length",
    /// The IPv4 header's checksum is wrong.
    BadHeaderChecksum => "bad_header_checksum",
    /// IPv4 options, or options of an IPv6 extension header, that do not add up.
    BadOptions => "bad_options",
    /// An IPv6 option that asks to be dropped by whoever does not know it
    /// (RFC 8200 §4.2).
    UnknownOption => "unknown_option",
    /// The sender chose the route: IPv4 source routing, or an IPv6 routing
    /// header with segments left (RFC 5095, RFC 7126 §4.3).
    SourceRoute => "source_route",
    /// A fragment. Both families do path MTU discovery, so none is expected.
    Fragment => "fragment",
    /// IPv6 extension headers out of order, too many, or in front of TCP where
    /// it cannot be passed on.
    ExtensionChain => "extension_chain",
    /// For an IP address that is not ours.
    ForeignAddr => "foreign_addr",
    /// From an address that no host has: multicast, broadcast, unspecified,
    /// loopback.
    BadSource => "bad_source",
    /// From an IP address of ours: looped back, forged, or a conflict.
    OwnSource => "own_source",
    /// One host's IP address in a frame to many (RFC 1122 §3.3.6).
    GroupFrame => "group_frame",
    /// TCP to a broadcast or multicast address (RFC 9293 §3.9.2.3).
    TcpToGroup => "tcp_to_group",
    /// A TCP data offset below its minimum or past the segment's end.
    BadTcpOffset => "bad_tcp_offset",
    /// TCP from or to port 0.
    TcpPortZero => "tcp_port_zero",
    /// A TCP or UDP checksum that its sender left for the card to finish: the
    /// field holds the sum of the pseudo-header alone (`CHECKSUM_PARTIAL` of
    /// linux/skbuff.h), and no card was on the way.
    PartialChecksum => "checksum_partial",
    /// The TCP checksum is wrong.
    BadTcpChecksum => "bad_tcp_checksum",
    /// The UDP checksum is wrong, or missing with IPv6 (RFC 8200 §8.1).
    BadUdpChecksum => "bad_udp_checksum",
    /// The ICMP or ICMPv6 checksum is wrong.
    BadIcmpChecksum => "bad_icmp_checksum",
    /// Not ARP for IPv4 over Ethernet, or neither request nor reply.
    BadArp => "bad_arp",
    /// Neighbour discovery or listener discovery that fails its own checks
    /// (RFC 4861 §7.1, RFC 3810 §6.2).
    BadNdp => "bad_ndp",
    /// Router discovery and redirects: routes are configured, not learned.
    RouterDiscovery => "router_discovery",
    /// ARP, neighbour discovery or ICMP, which the host answers whose addresses
    /// we share.
    HostsOwn => "hosts_own",
    /// Neither TCP, UDP nor ICMP.
    UnknownProtocol => "unknown_protocol",
}

impl DropCause {
    /// Number of causes, for an array of counters.
    pub(crate) const COUNT: usize = DropCause::ALL.len();

    /// Where this cause's counter is in an array of [`DropCause::COUNT`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}
