use std::io::Write;

use super::*;
use crate::inspect::fixture;

/// Number, time, link type, interface, length on the wire, data, comment, way.
type Row = (
    u64,
    i64,
    u32,
    u32,
    u32,
    Vec<u8>,
    Option<String>,
    Option<Way>,
);

fn read(file: &[u8]) -> (Vec<Row>, Reader) {
    let mut reader = Reader::from_bytes(file.to_vec()).unwrap();
    let mut rows = Vec::new();
    while let Some(record) = reader.next() {
        rows.push((
            record.number,
            record.at_ns,
            record.link,
            record.interface,
            record.original,
            record.data.to_vec(),
            record.comment.map(pcapng::text),
            record.way,
        ));
    }
    (rows, reader)
}

#[track_caller]
fn complaints(reader: &Reader, wanted: &[&str]) {
    let all = reader.complaints();
    assert_eq!(all.count as usize, wanted.len(), "{all:?}");
    for (complaint, wanted) in all.first.iter().zip(wanted) {
        assert!(
            complaint.what.contains(wanted),
            "{wanted} is not in {all:?}"
        );
    }
}

#[derive(Clone, Copy)]
struct Writer {
    is_big: bool,
}

const LITTLE: Writer = Writer { is_big: false };
const BIG: Writer = Writer { is_big: true };

impl Writer {
    fn u16(self, number: u16) -> Vec<u8> {
        match self.is_big {
            true => number.to_be_bytes().to_vec(),
            false => number.to_le_bytes().to_vec(),
        }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        let of = |word: &u32| match self.is_big {
            true => word.to_be_bytes(),
            false => word.to_le_bytes(),
        };
        words.iter().flat_map(of).collect()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = u32::try_from(body.len() + 12).unwrap();
        [self.words(&[kind, len]), body, self.words(&[len])].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [
            self.words(&[0x1a2b_3c4d]),
            self.u16(1),
            self.u16(0),
            vec![0xff; 8],
        ];
        self.block(0x0a0d_0d0a, &body.concat())
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let len = self.u16(u16::try_from(value.len()).unwrap());
        let mut option = [self.u16(code), len, value.to_vec()].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(self, link: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
        let body = [self.u16(link), self.u16(0), self.words(&[snap_len])].concat();
        self.block(1, &[body, options.to_vec()].concat())
    }

    fn packet(self, interface: u32, units: u64, data: &[u8], options: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).unwrap();
        let head = self.words(&[interface, (units >> 32) as u32, units as u32, len, len + 10]);
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(4), 0);
        self.block(6, &[head, data, options.to_vec()].concat())
    }
}

#[test]
fn classic_files_of_either_order_and_both_units() {
    for (magic, unit) in [(0xa1b2_c3d4_u32, 1_000), (0xa1b2_3c4d, 1)] {
        for writer in [LITTLE, BIG] {
            let head = [writer.words(&[magic]), writer.u16(2), writer.u16(4)].concat();
            let rest = writer.words(&[0, 0, 100, 101]);
            let record = writer.words(&[7, 9, 3, 60]);
            let file = [head, rest, record, vec![1, 2, 3]].concat();
            let (rows, reader) = read(&file);
            let at_ns = 7_000_000_000 + 9 * unit;
            assert_eq!(rows, [(1, at_ns, 101, 0, 60, vec![1, 2, 3], None, None)]);
            complaints(&reader, &[]);
            assert_eq!(reader.interfaces()[0].has_nanoseconds(), unit == 1);
        }
    }
}

#[test]
fn a_patched_libpcaps_records_are_longer() {
    let head = LITTLE.words(&[0xa1b2_cd34, 0x0004_0002, 0, 0, 100, 1]);
    let record = LITTLE.words(&[1, 0, 2, 2, 77, 78]);
    let (rows, _) = read(&[head, record, vec![8, 9]].concat());
    assert_eq!(rows, [(1, 1_000_000_000, 1, 0, 2, vec![8, 9], None, None)]);
}

#[test]
fn pcapng_of_either_order() {
    for writer in [LITTLE, BIG] {
        let clock = [writer.option(2, b"tap0"), writer.option(9, &[9])].concat();
        let said = [
            writer.option(1, "fd 3 · GET /".as_bytes()),
            writer.option(2, &writer.words(&[2])),
            writer.option(0, b""),
        ];
        let counts = [
            writer.option(
                4,
                &if writer.is_big {
                    50_u64.to_be_bytes()
                } else {
                    50_u64.to_le_bytes()
                },
            ),
            writer.option(
                5,
                &if writer.is_big {
                    2_u64.to_be_bytes()
                } else {
                    2_u64.to_le_bytes()
                },
            ),
        ];
        let file = [
            writer.section(),
            writer.interface(1, 0, &clock),
            writer.interface(
                113,
                0,
                &writer.option(
                    14,
                    &writer.words(&if writer.is_big { [0, 5] } else { [5, 0] }),
                ),
            ),
            writer.packet(0, 1_500_000_000_123_456_789, b"hello", &said.concat()),
            writer.packet(1, 2_000_001, b"x", &[]),
            writer.block(3, &[writer.words(&[3]), b"abc".to_vec()].concat()),
            writer.block(5, &[writer.words(&[0, 0, 0]), counts.concat()].concat()),
            writer.block(0xbad, &[0; 8]),
            writer.block(10, &[0; 8]),
        ];
        let (rows, reader) = read(&file.concat());
        let wanted = [
            (
                1,
                1_500_000_000_123_456_789,
                1,
                0,
                15,
                b"hello".to_vec(),
                Some("fd 3 · GET /".into()),
                Some(Way::Out),
            ),
            (2, 7_000_001_000, 113, 1, 11, b"x".to_vec(), None, None),
            (3, 7_000_001_000, 1, 0, 3, b"abc".to_vec(), None, None),
        ];
        assert_eq!(rows, wanted);
        complaints(&reader, &[]);
        let first = &reader.interfaces()[0];
        assert_eq!(
            (
                first.name.as_deref(),
                first.received,
                first.dropped_by_device
            ),
            (Some("tap0"), Some(50), Some(2))
        );
        assert_eq!(reader.secrets(), 1);
    }
}

#[test]
fn times_of_odd_resolutions() {
    for (resolution, units, ns) in [
        (6, 3, Some(3_000)),
        (0, 3, Some(3_000_000_000)),
        (12, 3_500, Some(3)),
        (0x80 | 1, 3, Some(1_500_000_000)),
        (0x80 | 63, u64::MAX, Some(1_999_999_999)),
        (0, u64::MAX, None),
        // What 64 bits cannot count is microseconds.
        (127, 3, Some(3_000)),
    ] {
        let mut clock = Clock::default();
        clock.set_resolution(resolution);
        assert_eq!(clock.ns(units), ns, "{resolution:#x} {units}");
    }
}

#[test]
fn sections_have_interfaces_of_their_own() {
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.packet(0, 1, b"a", &[]),
        BIG.section(),
        BIG.interface(101, 0, &[]),
        BIG.packet(0, 2, b"b", &[]),
        BIG.packet(1, 3, b"c", &[]),
    ];
    let (rows, reader) = read(&file.concat());
    let links: Vec<u32> = rows.iter().map(|row| row.2).collect();
    assert_eq!(links, [1, 101]);
    complaints(
        &reader,
        &["a packet of interface 1, which the file does not describe"],
    );
}

#[test]
fn a_bad_block_costs_that_block() {
    let bad_option = [LITTLE.u16(1), LITTLE.u16(400), vec![0; 4]].concat();
    let claims_more = LITTLE.block(6, &LITTLE.words(&[0, 0, 0, 5_000, 5_000, 0]));
    let mut ends_otherwise = LITTLE.packet(0, 5, b"four", &[]);
    let place = ends_otherwise.len() - 4;
    ends_otherwise[place..].copy_from_slice(&LITTLE.words(&[999]));
    let no_text = LITTLE.option(1, &[0xff, 0xfe]);
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &bad_option),
        LITTLE.packet(0, 1, b"one", &bad_option),
        claims_more,
        LITTLE.block(6, &[0; 4]),
        LITTLE.block(1, &[]),
        LITTLE.packet(9, 2, b"nowhere", &[]),
        LITTLE.packet(0, 3, b"two", &no_text),
        LITTLE.block(0x7777, &vec![0; 3 << 20]),
        ends_otherwise,
        LITTLE.packet(0, 6, b"last", &[]),
    ];
    let (rows, reader) = read(&file.concat());
    let data: Vec<&[u8]> = rows.iter().map(|row| &row.5[..]).collect();
    assert_eq!(data, [&b"one"[..], b"two", b"four", b"last"]);
    complaints(
        &reader,
        &[
            "option 1 of a block says that it has 400 bytes, 4 are left",
            "option 1 of a block says that it has 400 bytes, 4 are left",
            "a packet block of 36 bytes says that it holds 5000 bytes",
            "a packet block of 16 bytes has no room for its header",
            "an interface block of 0 bytes has no link type",
            "a packet of interface 9",
            "a block of type 0x7777 with 3145740 bytes is stepped over",
        ],
    );
}

#[test]
fn what_cannot_be_stepped_over_ends_it_with_words() {
    let start = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.packet(0, 1, b"one", &[]),
    ]
    .concat();
    for (more, wanted) in [
        (
            LITTLE.words(&[6, 3, 0]),
            "a block of type 0x6 says that it is 3 bytes long",
        ),
        (
            LITTLE.words(&[6, 0, 0]),
            "a block of type 0x6 says that it is 0 bytes long",
        ),
        (
            LITTLE.words(&[6]),
            "the file ends within a block's header, after 4 bytes",
        ),
        (
            LITTLE.words(&[6, 0xffff_fff0, 0]),
            "the file ends within a packet block",
        ),
        (
            LITTLE.words(&[5, 100, 0]),
            "the file ends within a block of type 0x5, after 12 of 100 bytes",
        ),
        (LITTLE.words(&[99, 0xffff_fff0, 0]), "a block of type 0x63"),
        (
            LITTLE.words(&[0x0a0d_0d0a, 28, 7]),
            "a section's byte order mark is none",
        ),
    ] {
        let (rows, reader) = read(&[start.clone(), more].concat());
        assert_eq!(rows.len(), 1);
        let all = reader.complaints();
        assert!(all.first[0].what.contains(wanted), "{wanted}: {all:?}");
    }
}

#[test]
fn classic_records_that_cannot_be() {
    let one = fixture::pcap(&[(1, b"one".to_vec())]);
    for (more, wanted) in [
        (
            LITTLE.words(&[1, 1, u32::MAX, 5]),
            "says that it holds 4294967295 bytes",
        ),
        (
            LITTLE.words(&[1, 1]),
            "within a record's header, after 8 of 16 bytes",
        ),
        (
            LITTLE.words(&[1, 1, 9, 9, 0]),
            "within a packet, after 4 of 9 bytes",
        ),
    ] {
        let (rows, reader) = read(&[one.clone(), more].concat());
        assert_eq!(rows.len(), 1);
        complaints(&reader, &[wanted]);
    }
    let doubtful = [LITTLE.words(&[1, 1, 4, 2]), b"four".to_vec()].concat();
    let (rows, reader) = read(&[one, doubtful].concat());
    assert_eq!((rows.len(), rows[1].4), (2, 4));
    complaints(&reader, &["4 bytes of a packet of 2 were captured"]);
}

#[test]
fn every_cut_of_a_file_gives_what_came_before() {
    let plain = fixture::pcap(&[(1, vec![1; 40]), (2, vec![2; 30])]);
    let blocks = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &LITTLE.option(2, b"x")),
        LITTLE.packet(0, 1, &[1; 40], &[]),
        LITTLE.packet(0, 2, &[2; 30], &LITTLE.option(1, b"said")),
    ]
    .concat();
    for file in [plain, blocks] {
        let mut last = 0;
        for len in 0..=file.len() {
            let Ok(mut reader) = Reader::from_bytes(file[..len].to_vec()) else {
                continue;
            };
            let mut count = 0;
            while reader.next().is_some() {
                count += 1;
            }
            assert!(count >= last, "{len}");
            last = count;
        }
        assert_eq!(last, 2);
    }
}

#[test]
fn packed_files_are_unpacked() {
    let file = fixture::pcap(&[(1, vec![1; 4000]), (2, vec![2; 30])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&file[..500]).unwrap();
    let mut two_members = gzip.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&file[500..]).unwrap();
    two_members.extend(gzip.finish().unwrap());
    let zstd = zstd::encode_all(&file[..], 1).unwrap();
    for (packed, name) in [(two_members, "pcap, gzip"), (zstd, "pcap, zstd")] {
        let (rows, reader) = read(&packed);
        assert_eq!((rows.len(), reader.format().as_str()), (2, name));
        complaints(&reader, &[]);
        let cut = Reader::from_bytes(packed[..packed.len() - 6].to_vec());
        let told = match cut {
            Ok(mut reader) => {
                while reader.next().is_some() {}
                reader.complaints().first[0].what.clone()
            }
            Err(why) => why,
        };
        assert!(
            told.contains("can be read") || told.contains("cannot be read"),
            "{told}"
        );
    }
}

#[test]
fn what_is_no_capture_is_refused_with_words() {
    for (bytes, wanted) in [
        (&b""[..], "it is empty"),
        (b"GET / HTTP/1.1\r\n", "it begins with [47, 45, 54, 20]"),
        (b"wirepath-trace 1\n", "`wirepath trace FILE` reads it"),
        (
            b"\xd4\xc3\xb2\xa1\x02",
            "it ends within its header, after 5 of 24 bytes",
        ),
    ] {
        let error = Reader::from_bytes(bytes.to_vec()).err().unwrap();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn complaints_are_counted_beyond_those_that_are_kept() {
    let bad = LITTLE.packet(9, 2, b"nowhere", &[]);
    let file = [LITTLE.section(), bad.repeat(100)].concat();
    let (rows, reader) = read(&file);
    assert!(rows.is_empty());
    let all = reader.complaints();
    assert_eq!((all.count, all.first.len()), (100, MAX_COMPLAINTS));
}
