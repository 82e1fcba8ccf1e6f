//! The filter itself: the rule, as instructions.
//!
//! Registers: `R6` the frame's context, `R7` the start of the header that is
//! looked at, `R8` the end of the frame, `R9` the fate (its place in a row of
//! counters, in bytes) from where it is known. `R0` to `R5` hold what the next
//! few instructions use.
//!
//! Each part either goes on to the next header or leaves for the label of a
//! fate; the ends of all paths are one piece of code that redirects, counts and
//! returns. Every read is behind a comparison with the frame's end, which the
//! verifier insists on.
//!
//! Addresses are compared one after the other and ports by halving a sorted
//! list of ranges, both as constants in the program: 64 ports cost six
//! comparisons. The test `the_price_of_addresses_and_ports` prints what that
//! takes; 64 addresses or 1,024 ports took under 10 ns more than one of each,
//! the usual 8 addresses under 2 ns. Hash maps were rejected: each lookup is a
//! call and a hash also for a single address, and they are three maps more that
//! a privileged process could change under the server.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use super::asm::{Asm, Cond, Helper, Insn, Label, Op, Reg, Size, Unreachable};
use super::rules::Rules;
use super::sys::Action;
use super::verdicts::{Fate, ROW};

use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};

/// Extension headers that are looked over before a packet is left to the
/// kernel. RFC 8200, section 4.1, has at most four before the payload that are
/// not for IPsec.
pub const HEADERS_MAX: usize = 6;

/// Fields of `struct xdp_md`.
const CTX_DATA: i16 = 0;
const CTX_DATA_END: i16 = 4;
const CTX_RX_QUEUE: i16 = 16;

const ETHERNET: i32 = 14;
const IPV4_MIN: i32 = 20;
const IPV6: i32 = 40;
const ARP: i32 = 28;

const ETHERTYPE_IPV4: i32 = 0x0800;
const ETHERTYPE_ARP: i32 = 0x0806;
const ETHERTYPE_VLAN: i32 = 0x8100;
const ETHERTYPE_IPV6: i32 = 0x86dd;
const ETHERTYPE_VLAN_SERVICE: i32 = 0x88a8;

const PROTO_HOP_BY_HOP: i32 = 0;
const PROTO_ICMP: i32 = 1;
const PROTO_TCP: i32 = 6;
const PROTO_UDP: i32 = 17;
const PROTO_ROUTING: i32 = 43;
const PROTO_FRAGMENT: i32 = 44;
const PROTO_ICMPV6: i32 = 58;
const PROTO_DESTINATION: i32 = 60;

const NEIGHBOR_SOLICITATION: i32 = 135;
const NEIGHBOR_ADVERTISEMENT: i32 = 136;
/// Bytes of both up to the end of the target (RFC 4861, 4.3 and 4.4).
const NEIGHBOR_MESSAGE: i32 = 24;

/// The maps that the program works with.
#[derive(Clone, Copy, Debug)]
pub struct Maps<'a> {
    /// Sockets by queue.
    pub sockets: BorrowedFd<'a>,
    /// Counters: one value with a row for each CPU.
    pub counters: BorrowedFd<'a>,
    /// Rows of the counters.
    pub cpus: u32,
}

/// The program of `rules`.
///
/// # Errors
/// If it would be too long to jump through, which the limits of [`Rules`]
/// exclude.
pub fn emit(rules: &Rules, maps: Maps<'_>) -> Result<Vec<Insn>, Unreachable> {
    let mut asm = Asm::default();
    let to = Exits::new(&mut asm);
    let mut writer = Writer {
        asm,
        to,
        addrs: Addrs::of(rules),
        shared: rules.is_shared(),
        ports: rules.ports().map(ranges),
    };
    writer.ethernet();
    writer.ipv4();
    writer.ipv6();
    writer.arp();
    writer.transport();
    writer.ends(maps);
    writer.asm.finish()
}

/// Our addresses by family.
struct Addrs {
    v4: BTreeSet<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
}

impl Addrs {
    fn of(rules: &Rules) -> Addrs {
        let mut addrs = Addrs {
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
        };
        for addr in &rules.addrs {
            match addr {
                IpAddr::V4(v4) => addrs.v4.insert(*v4),
                IpAddr::V6(v6) => addrs.v6.insert(*v6),
            };
        }
        addrs
    }
}

/// Ports as ascending ranges with gaps between them.
fn ranges(ports: &[u16]) -> Vec<(u16, u16)> {
    let sorted: BTreeSet<u16> = ports.iter().copied().collect();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in sorted {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == port => *end = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges
}

/// Where paths go when they are done.
struct Exits {
    fates: [Label; Fate::ALL.len()],
    ipv4: Label,
    ipv6: Label,
    arp: Label,
    /// `R3` holds the protocol, `R7` points behind the IP headers.
    transport: Label,
    /// `R9` holds a fate of [`Action::Redirect`].
    redirect: Label,
}

impl Exits {
    fn new(asm: &mut Asm) -> Exits {
        Exits {
            fates: std::array::from_fn(|_| asm.label()),
            ipv4: asm.label(),
            ipv6: asm.label(),
            arp: asm.label(),
            transport: asm.label(),
            redirect: asm.label(),
        }
    }
}

struct Writer {
    asm: Asm,
    to: Exits,
    addrs: Addrs,
    shared: bool,
    /// None for all ports.
    ports: Option<Vec<(u16, u16)>>,
}

impl Writer {
    fn fate(&self, fate: Fate) -> Label {
        self.to.fates[fate as usize]
    }

    /// Leaves unless the frame has `len` more bytes.
    fn need(&mut self, len: i32) {
        let short = self.fate(Fate::PassShort);
        self.asm.mov(R1, R7);
        self.asm.alu(Op::Add, R1, len);
        self.asm.jump_if(Cond::Gt, R1, R8, short);
    }

    fn ethernet(&mut self) {
        let (vlan, other) = (self.fate(Fate::PassVlan), self.fate(Fate::PassEthertype));
        self.asm.mov(R6, R1);
        self.asm.load(Size::Word, R7, R6, CTX_DATA);
        self.asm.load(Size::Word, R8, R6, CTX_DATA_END);
        self.need(ETHERNET);
        self.asm.load_be16(R2, R7, 12);
        self.asm.alu(Op::Add, R7, ETHERNET);
        for (ethertype, label) in [
            (ETHERTYPE_IPV4, self.to.ipv4),
            (ETHERTYPE_IPV6, self.to.ipv6),
            (ETHERTYPE_ARP, self.to.arp),
            (ETHERTYPE_VLAN, vlan),
            (ETHERTYPE_VLAN_SERVICE, vlan),
        ] {
            self.asm.jump_if(Cond::Eq, R2, ethertype, label);
        }
        self.asm.jump(other);
    }

    /// RFC 791, 3.1.
    fn ipv4(&mut self) {
        let (version, elsewhere) = (self.fate(Fate::PassVersion), self.fate(Fate::PassAddress));
        let ours = self.asm.label();
        self.asm.place(self.to.ipv4);
        if self.addrs.v4.is_empty() {
            return self.asm.jump(elsewhere);
        }
        self.need(IPV4_MIN);
        self.asm.load(Size::Byte, R2, R7, 0);
        self.asm.mov(R3, R2);
        self.asm.alu(Op::Shr, R3, 4);
        self.asm.jump_if(Cond::Ne, R3, 4, version);
        self.asm.alu(Op::And, R2, 0x0f);
        self.asm.jump_if(Cond::Lt, R2, IPV4_MIN / 4, version);
        self.find_v4(16, ours);
        self.asm.jump(elsewhere);

        self.asm.place(ours);
        self.asm.load_be16(R4, R7, 6);
        self.fragment(R4, 0x3fff, 0x1fff);
        self.asm.load(Size::Byte, R3, R7, 9);
        self.icmp(PROTO_ICMP);
        self.asm.alu(Op::Shl, R2, 2);
        self.asm.alu(Op::Add, R7, R2);
        self.asm.jump(self.to.transport);
    }

    /// Goes to `found` if the IPv4 address at `R7 + off` is ours.
    fn find_v4(&mut self, off: i16, found: Label) {
        self.asm.load(Size::Word, R4, R7, off);
        for addr in self.addrs.v4.clone() {
            let value = u32::from_ne_bytes(addr.octets());
            self.asm.jump_if_u32(Cond::Eq, R4, value, found);
        }
    }

    /// Leaves if `field` says that this is part of a packet: any part where the
    /// address is shared, a part other than the first where it is ours.
    fn fragment(&mut self, field: Reg, any: i32, offset: i32) {
        let (mask, fate) = if self.shared {
            (any, Fate::PassFragment)
        } else {
            (offset, Fate::DropFragment)
        };
        let label = self.fate(fate);
        self.asm.jump_if(Cond::Set, field, mask, label);
    }

    /// Leaves if `R3` says that this is ICMP for an address of ours alone.
    fn icmp(&mut self, protocol: i32) {
        if !self.shared {
            let label = self.fate(Fate::RedirectIcmp);
            self.asm.jump_if(Cond::Eq, R3, protocol, label);
        }
    }

    /// RFC 8200, section 3.
    fn ipv6(&mut self) {
        let (version, elsewhere) = (self.fate(Fate::PassVersion), self.fate(Fate::PassAddress));
        let ours = self.asm.label();
        self.asm.place(self.to.ipv6);
        if self.addrs.v6.is_empty() {
            return self.asm.jump(elsewhere);
        }
        self.need(IPV6);
        self.asm.load(Size::Byte, R2, R7, 0);
        self.asm.alu(Op::Shr, R2, 4);
        self.asm.jump_if(Cond::Ne, R2, 6, version);
        self.asm.load(Size::Byte, R3, R7, 6);
        if !self.shared {
            self.neighbor();
        }
        self.find_v6(24, ours);
        self.asm.jump(elsewhere);

        self.asm.place(ours);
        self.asm.alu(Op::Add, R7, IPV6);
        self.headers();
    }

    /// Leaves with a neighbour message whose target is ours, whatever it was
    /// sent to: a group, all nodes, or one host. Only one that follows the IPv6
    /// header at once is looked at; one behind extension headers goes by its
    /// destination alone.
    fn neighbor(&mut self) {
        let no = self.asm.label();
        let look = self.asm.label();
        let ours = self.fate(Fate::RedirectNdp);
        self.asm.jump_if(Cond::Ne, R3, PROTO_ICMPV6, no);
        self.asm.mov(R1, R7);
        self.asm.alu(Op::Add, R1, IPV6 + NEIGHBOR_MESSAGE);
        self.asm.jump_if(Cond::Gt, R1, R8, no);
        self.asm.load(Size::Byte, R2, R7, IPV6 as i16);
        self.asm.jump_if(Cond::Eq, R2, NEIGHBOR_SOLICITATION, look);
        self.asm.jump_if(Cond::Ne, R2, NEIGHBOR_ADVERTISEMENT, no);
        self.asm.place(look);
        self.find_v6(IPV6 as i16 + 8, ours);
        self.asm.place(no);
    }

    /// Goes to `found` if the IPv6 address at `R7 + off` is ours.
    fn find_v6(&mut self, off: i16, found: Label) {
        self.load_unaligned(R4, off);
        self.load_unaligned(R5, off + 8);
        for addr in self.addrs.v6.clone() {
            let next = self.asm.label();
            let [high, low] = halves(addr);
            self.asm.constant(R1, low);
            self.asm.jump_if(Cond::Ne, R5, R1, next);
            self.asm.constant(R1, high);
            self.asm.jump_if(Cond::Eq, R4, R1, found);
            self.asm.place(next);
        }
    }

    /// Eight bytes of the frame.
    fn load_unaligned(&mut self, dst: Reg, off: i16) {
        self.asm.load(Size::Double, dst, R7, off);
    }

    /// Walks over extension headers: `R3` is the next header, `R7` points at it.
    fn headers(&mut self) {
        for _ in 0..HEADERS_MAX {
            self.header();
        }
        let label = self.fate(Fate::PassHeaders);
        for protocol in [
            PROTO_HOP_BY_HOP,
            PROTO_DESTINATION,
            PROTO_ROUTING,
            PROTO_FRAGMENT,
        ] {
            self.asm.jump_if(Cond::Eq, R3, protocol, label);
        }
        self.icmp(PROTO_ICMPV6);
        self.asm.jump(self.to.transport);
    }

    /// One extension header (RFC 8200, 4.3 to 4.6), or out of the walk.
    fn header(&mut self) {
        let (sized, routing, fragment) = (self.asm.label(), self.asm.label(), self.asm.label());
        let skip = self.asm.label();
        let undone = self.fate(Fate::PassHeaders);
        self.asm.jump_if(Cond::Eq, R3, PROTO_HOP_BY_HOP, sized);
        self.asm.jump_if(Cond::Eq, R3, PROTO_DESTINATION, sized);
        self.asm.jump_if(Cond::Eq, R3, PROTO_ROUTING, routing);
        self.asm.jump_if(Cond::Eq, R3, PROTO_FRAGMENT, fragment);
        self.icmp(PROTO_ICMPV6);
        self.asm.jump(self.to.transport);

        // A routing header whose list is not used up: our address is a stop
        // on the way, and the kernel decides.
        self.asm.place(routing);
        self.need(8);
        self.asm.load(Size::Byte, R4, R7, 3);
        self.asm.jump_if(Cond::Ne, R4, 0, undone);

        self.asm.place(sized);
        self.need(8);
        self.asm.load(Size::Byte, R2, R7, 1);
        self.asm.jump(skip);

        self.asm.place(fragment);
        self.need(8);
        self.asm.load_be16(R4, R7, 2);
        if self.shared {
            let label = self.fate(Fate::PassFragment);
            self.asm.jump(label);
        } else {
            self.fragment(R4, 0xfff8, 0xfff8);
            self.asm.mov(R2, 0);
        }

        self.asm.place(skip);
        self.asm.load(Size::Byte, R3, R7, 0);
        self.asm.alu(Op::Add, R2, 1);
        self.asm.alu(Op::Shl, R2, 3);
        self.asm.alu(Op::Add, R7, R2);
    }

    /// RFC 826: what asks for, answers for, or comes from an address of ours.
    fn arp(&mut self) {
        let (elsewhere, ours) = (self.fate(Fate::PassAddress), self.fate(Fate::RedirectArp));
        let other = self.fate(Fate::PassEthertype);
        self.asm.place(self.to.arp);
        if self.shared || self.addrs.v4.is_empty() {
            return self.asm.jump(elsewhere);
        }
        self.need(ARP);
        // Ethernet addresses of six bytes for IPv4 addresses of four.
        for (off, want) in [(0, 1), (2, ETHERTYPE_IPV4), (4, 0x0604)] {
            self.asm.load_be16(R2, R7, off);
            self.asm.jump_if(Cond::Ne, R2, want, other);
        }
        self.find_v4(14, ours);
        self.find_v4(24, ours);
        self.asm.jump(elsewhere);
    }

    /// TCP and UDP, by their destination port.
    fn transport(&mut self) {
        let other = self.fate(Fate::PassProtocol);
        let known = self.asm.label();
        self.asm.place(self.to.transport);
        self.asm.mov(R9, offset(Fate::RedirectTcp));
        self.asm.jump_if(Cond::Eq, R3, PROTO_TCP, known);
        self.asm.mov(R9, offset(Fate::RedirectUdp));
        self.asm.jump_if(Cond::Ne, R3, PROTO_UDP, other);
        self.asm.place(known);
        self.need(4);
        if let Some(ranges) = self.ports.clone() {
            self.asm.load_be16(R2, R7, 2);
            self.find_port(&ranges);
        } else {
            self.asm.jump(self.to.redirect);
        }
    }

    /// Goes to `redirect` if `R2` is in one of the ranges, else away.
    fn find_port(&mut self, ranges: &[(u16, u16)]) {
        let not_ours = self.fate(Fate::PassPort);
        let (start, end) = match ranges {
            [] => return self.asm.jump(not_ours),
            [only] => *only,
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let upper = self.asm.label();
                self.asm.jump_if(Cond::Ge, R2, i32::from(above[0].0), upper);
                self.find_port(below);
                self.asm.place(upper);
                return self.find_port(above);
            }
        };
        self.asm.jump_if(Cond::Lt, R2, i32::from(start), not_ours);
        self.asm.jump_if(Cond::Gt, R2, i32::from(end), not_ours);
        self.asm.jump(self.to.redirect);
    }

    /// The ends of all paths: the verdict into `R7`, counted, returned.
    fn ends(&mut self, maps: Maps<'_>) {
        let count = self.asm.label();
        for fate in Fate::ALL {
            let label = self.fate(fate);
            // The verifier refuses instructions that no path reaches.
            if !self.asm.is_used(label) {
                continue;
            }
            self.asm.place(label);
            self.asm.mov(R9, offset(fate));
            if fate.action() == Action::Redirect {
                self.asm.jump(self.to.redirect);
            } else {
                self.asm.mov(R7, fate.action() as i32);
                self.asm.jump(count);
            }
        }
        self.redirect(maps.sockets, count);
        self.count(maps, count);
    }

    /// Hands the frame to the socket of its queue; where there is none, the
    /// helper gives the verdict that it got as flags (Linux 5.3).
    fn redirect(&mut self, sockets: BorrowedFd<'_>, count: Label) {
        self.asm.place(self.to.redirect);
        self.asm.map(R1, sockets);
        self.asm.load(Size::Word, R2, R6, CTX_RX_QUEUE);
        self.asm.mov(R3, Action::Pass as i32);
        self.asm.call(Helper::RedirectMap);
        self.asm.mov(R7, R0);
        self.asm
            .jump_if(Cond::Eq, R0, Action::Redirect as i32, count);
        self.asm.mov(R9, offset(Fate::PassNoSocket));
    }

    /// Adds one to the fate's counter in the row of this CPU, and returns.
    fn count(&mut self, maps: Maps<'_>, count: Label) {
        let done = self.asm.label();
        self.asm.place(count);
        self.asm.call(Helper::SmpProcessorId);
        // Never so; it tells the verifier where the rows end.
        self.asm
            .jump_if(Cond::Ge, R0, maps.cpus.cast_signed(), done);
        self.asm.alu(Op::Shl, R0, ROW.trailing_zeros() as i32);
        self.asm.map_value(R1, maps.counters);
        self.asm.alu(Op::Add, R1, R0);
        self.asm.alu(Op::Add, R1, R9);
        self.asm.load(Size::Double, R2, R1, 0);
        self.asm.alu(Op::Add, R2, 1);
        self.asm.store(Size::Double, R1, 0, R2);
        self.asm.place(done);
        self.asm.mov(R0, R7);
        self.asm.exit();
    }
}

/// Where a fate's counter stands in a row, in bytes.
fn offset(fate: Fate) -> i32 {
    fate as i32 * size_of::<u64>() as i32
}

/// The address's two halves, as a load of eight bytes gives them.
fn halves(addr: Ipv6Addr) -> [u64; 2] {
    let bits = addr.to_bits();
    [(bits >> 64) as u64, bits as u64].map(|half| u64::from_ne_bytes(half.to_be_bytes()))
}
