use std::collections::VecDeque;
use std::process::Command;
use std::sync::mpsc;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::cable::{CableEnd, CableOptions, cable};
use crate::frame::Frame;

mod files;
mod held;
mod live;

/// A sink that can be read while it is written, and told to fail.
#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that blocks in its first write until it is let go.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ends() -> (CableEnd, CableEnd) {
    cable(CableOptions::default()).unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(
            start.elapsed().as_secs() < 20,
            "waited in vain until {what}"
        );
        std::thread::yield_now();
    }
}

fn offer(queue: &mut impl Queue, at: u64, len: usize, count: usize) {
    let make = |_| {
        let mut frame = queue.pool().take_tx().unwrap();
        frame.set_bounds(0, len);
        frame.fill_with(|| 0);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        frame
    };
    let mut frames: VecDeque<Frame> = (0..count).map(make).collect();
    assert_eq!(queue.tx_burst(Nanos(at), &mut frames).unwrap(), count);
    queue.kick(Nanos(at)).unwrap();
}

fn receive(queue: &mut impl Queue, at: u64) -> usize {
    queue.rx_burst(Nanos(at), &mut Vec::new()).unwrap()
}

const FLAGS_IN: u32 = 1;
const FLAGS_OUT: u32 = 2;

/// What a test wants to know of each packet: direction, time, bytes, length.
type Packet = (u32, u64, usize, u32);

/// Frames seen, left out and written.
type Counts = (u64, u64, u64);

fn read(file: &[u8]) -> (Vec<String>, Vec<Packet>, Vec<Counts>) {
    let mut reader = PcapNgReader::new(file).unwrap();
    let (mut names, mut packets, mut counts) = (vec![], vec![], vec![]);
    while let Some(block) = reader.next_block() {
        match block.unwrap().0 {
            Block::InterfaceDescription(b) => {
                for option in b.options {
                    match option {
                        InterfaceDescriptionOption::IfName(name) => names.push(name.into_owned()),
                        InterfaceDescriptionOption::IfTsResol(r) => assert_eq!(r.to_u8(), 9),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Block::EnhancedPacket(b) => {
                let EnhancedPacketOption::Flags(flags) = b.options[0] else {
                    panic!("{:?}", b.options);
                };
                let nanos = u64::try_from(b.timestamp.as_nanos()).unwrap();
                packets.push((flags, nanos, b.data.len(), b.original_len));
            }
            Block::InterfaceStatistics(b) => {
                let mut count = (0, 0, 0);
                for option in b.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(n) => count.0 = n,
                        InterfaceStatisticsOption::IsbIfDrop(n) => count.1 = n,
                        InterfaceStatisticsOption::IsbUsrDeliv(n) => count.2 = n,
                        _ => {}
                    }
                }
                counts.push(count);
            }
            other => panic!("{other:?}"),
        }
    }
    (names, packets, counts)
}

#[test]
fn two_queues_share_a_file_with_times_directions_and_lengths() {
    let sink = Memory::default();
    let options = CaptureOptions {
        snap_len: 100,
        ..CaptureOptions::default()
    };
    let handle = CaptureFile::start(sink.clone(), options).unwrap();
    let offset = handle.plug.shared.wall_offset_ns;
    let (a, b) = ends();
    let mut a = handle.wrap(Box::new(a) as Box<dyn Queue>);
    let mut b = handle.wrap(b);
    offer(&mut a, 1_000_000_001, 60, 1);
    offer(&mut b, 1_000_000_003, 200, 1);
    assert_eq!(receive(&mut b, 1_000_000_007), 1);
    assert_eq!(receive(&mut a, 1_000_000_009), 1);
    let summary = handle.finish().unwrap();
    assert_eq!((summary.written, summary.left_out), (4, 0));
    assert_eq!(summary.written_bytes, 60 + 60 + 100 + 100);

    let (names, packets, counts) = read(&sink.bytes.lock().unwrap());
    assert_eq!(names, ["cable a", "cable b"]);
    let want = [
        (FLAGS_OUT, 1_000_000_001, 60, 60),
        (FLAGS_OUT, 1_000_000_003, 100, 200),
        (FLAGS_IN, 1_000_000_001, 60, 60),
        (FLAGS_IN, 1_000_000_003, 100, 200),
    ];
    let want = want.map(|(flags, at, kept, len)| (flags, at + offset, kept, len));
    assert_eq!(packets, want);
    assert_eq!(counts, [(2, 0, 2), (2, 0, 2)]);
    // The queues go on, and nothing is counted any more.
    offer(&mut a, 0, 60, 1);
    assert_eq!(receive(&mut b, 0), 1);
}

#[test]
fn a_writer_that_is_stuck_costs_frames_of_the_capture_only() {
    for (waiting_frames, waiting_bytes, kept) in [(8, 1 << 20, 8), (64, 600, 10)] {
        let (let_go, stuck) = mpsc::channel();
        let options = CaptureOptions {
            waiting_frames,
            waiting_bytes,
            ..CaptureOptions::default()
        };
        let handle = CaptureFile::start(Stuck(stuck), options).unwrap();
        let (a, mut b) = ends();
        let mut a = handle.wrap(a);
        offer(&mut a, 0, 60, 40);
        assert_eq!(receive(&mut b, 0), 40, "all frames went through");
        drop(let_go);
        let summary = handle.finish().unwrap();
        assert_eq!((summary.written, summary.left_out), (kept, 40 - kept));
    }
}

#[test]
fn a_full_disk_ends_the_capture_and_is_told_once() {
    let sink = Memory::default();
    let handle = CaptureFile::start(sink.clone(), CaptureOptions::default()).unwrap();
    let (a, mut b) = ends();
    let mut a = handle.wrap(a);
    offer(&mut a, 0, 60, 1);
    wait_until("the first is written", || handle.stats().written == 1);
    sink.fails.store(true, Ordering::SeqCst);
    wait_until("writing has failed", || {
        offer(&mut a, 0, 60, 1);
        receive(&mut b, 0);
        handle.stats().failed
    });
    offer(&mut a, 0, 60, 3);
    let seen = handle.stats().seen;
    let error = handle.finish().unwrap_err();
    let CaptureError::Write { summary, source } = error else {
        panic!("{error}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(
        summary.written, 1,
        "what a failed flush took is not in the file"
    );
    assert_eq!(seen, summary.written + summary.left_out);
}

#[test]
fn a_live_file_grows_while_traffic_flows_and_drop_finishes_it() {
    let sink = Memory::default();
    let handle = CaptureFile::start(sink.clone(), CaptureOptions::default()).unwrap();
    let mut a = handle.wrap(ends().0);
    offer(&mut a, 5, 60, 1);
    wait_until("the frame is in the file", || {
        let bytes = sink.bytes.lock().unwrap().clone();
        !bytes.is_empty() && read(&bytes).1.len() == 1
    });
    drop(handle);
    assert_eq!(read(&sink.bytes.lock().unwrap()).2, [(1, 0, 1)]);
}

#[test]
fn frames_that_the_ring_did_not_take_are_not_in_the_file() {
    let sink = Memory::default();
    let handle = CaptureFile::start(sink.clone(), CaptureOptions::default()).unwrap();
    let (a, _b) = cable(CableOptions {
        ring_frames: 2,
        ..CableOptions::default()
    })
    .unwrap();
    let mut a = handle.wrap(a);
    let mut frames: VecDeque<Frame> = (0..3)
        .map(|_| {
            let mut frame = a.pool().take_tx().unwrap();
            assert!(frame.fill(&[0; 60]));
            frame
        })
        .collect();
    assert_eq!(a.tx_burst(Nanos(0), &mut frames).unwrap(), 2);
    let seen = handle.stats().seen;
    let summary = handle.finish().unwrap();
    assert_eq!((seen, summary.written, summary.written_bytes), (2, 2, 120));
}

#[test]
fn tshark_agrees() {
    let path = std::env::temp_dir().join(format!("wirepath-capture-{}", std::process::id()));
    let handle = CaptureFile::start(
        std::fs::File::create(&path).unwrap(),
        CaptureOptions::default(),
    )
    .unwrap();
    let offset = handle.plug.shared.wall_offset_ns;
    let (a, b) = ends();
    let (mut a, mut b) = (handle.wrap(a), b);
    offer(&mut a, 1_234_567_891, 60, 1);
    offer(&mut b, 2_234_567_893, 60, 1);
    assert_eq!(receive(&mut a, 3), 1);
    handle.finish().unwrap();
    let fields = [
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "frame.interface_name",
    ];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let Ok(output) = tshark.output() else {
        eprintln!("SKIPPED: tshark is not installed, so it was not asked about the capture");
        return;
    };
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let time = |at: u64| {
        let at = at + offset;
        format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
    };
    for (line, (at, direction)) in text
        .lines()
        .zip([(1_234_567_891, "2"), (2_234_567_893, "1")])
    {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns[0], time(at));
        assert_eq!(
            u32::from_str_radix(columns[1].trim_start_matches("0x"), 16),
            direction.parse()
        );
        assert_eq!(columns[2], "cable a");
    }
    assert_eq!(
        text.lines().count(),
        2,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
