//! Captures that tests make byte by byte.

/// A frame of TCP over IPv4 on Ethernet.
pub struct Frame {
    /// Host numbers in 10.0.0.0/24, and ports.
    pub from: (u8, u16),
    /// As above.
    pub to: (u8, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = 20 + header + self.payload.len();
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
        bytes.extend(u16::try_from(total).unwrap().to_be_bytes());
        bytes.extend([
            0,
            0,
            0x40,
            0,
            64,
            6,
            0,
            0,
            10,
            0,
            0,
            self.from.0,
            10,
            0,
            0,
            self.to.0,
        ]);
        bytes.extend(self.from.1.to_be_bytes());
        bytes.extend(self.to.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([u8::try_from(header / 4).unwrap() << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }
}

/// A classic file of Ethernet, little-endian, microseconds.
pub fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (us, bytes) in packets {
        let len = u32::try_from(bytes.len()).unwrap();
        let (s, us) = (
            u32::try_from(us / 1_000_000).unwrap(),
            (us % 1_000_000) as u32,
        );
        for word in [s, us, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    file
}
