//! Tests of captures, read back with pcap-file and over a cable.

use std::sync::mpsc::{Receiver, Sender, channel};

use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::cable::{CableEnd, CableOptions, cable};

/// A sink whose bytes can be looked at when the writer is done.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that waits for a word before each write.
struct Gate(Receiver<()>);

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // A closed gate's keeper is gone: let everything through.
        let _ = self.0.recv();
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn captured(file: &CaptureFile, options: CableOptions) -> (Capture, CableEnd) {
    let (near, far) = cable(options).unwrap();
    (file.wrap(Box::new(near)), far)
}

fn send(queue: &mut dyn Queue, now: Nanos, bytes: &[u8]) -> usize {
    let mut frame = queue.pool().take_tx().unwrap();
    assert!(frame.fill(bytes));
    let taken = queue.tx_burst(now, &mut VecDeque::from([frame])).unwrap();
    queue.kick(now).unwrap();
    taken
}

fn receive(queue: &mut dyn Queue, now: Nanos) -> usize {
    let mut frames = Vec::new();
    queue.rx_burst(now, &mut frames).unwrap()
}

#[test]
fn both_directions_are_in_the_file_with_their_times() {
    let bytes = Bytes::default();
    let options = CaptureOptions {
        snap_len: 64,
        ..CaptureOptions::default()
    };
    let file = CaptureFile::start(bytes.clone(), options).unwrap();
    let (mut near, mut far) = captured(&file, CableOptions::default());
    send(&mut near, Nanos(1_000_000_001), &[1; 60]);
    send(&mut far, Nanos(1_000_000_002), &[2; 200]);
    assert_eq!(receive(&mut near, Nanos(1_000_000_003)), 1);
    assert_eq!(
        file.finish().unwrap(),
        CaptureSummary {
            written: 2,
            left_out: 0
        }
    );

    let bytes = bytes.0.lock().unwrap().clone();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut packets, mut statistics) = (Vec::new(), None);
    while let Some(block) = reader.next_block() {
        match block.unwrap().0.into_owned() {
            Block::EnhancedPacket(p) => packets.push(p),
            Block::InterfaceStatistics(s) => statistics = Some(s),
            Block::InterfaceDescription(d) => {
                let text = format!("{:?}", d.options);
                assert!(text.contains("cable end a"), "{text}");
            }
            _ => {}
        }
    }
    let nanos = |d: std::time::Duration| d.as_nanos() as u64;
    assert_eq!(packets.len(), 2);
    assert_eq!((packets[0].data.len(), packets[0].original_len), (60, 60));
    assert_eq!((packets[1].data.len(), packets[1].original_len), (64, 200));
    // Received at the time that it came into the ring.
    assert_eq!(nanos(packets[1].timestamp) - nanos(packets[0].timestamp), 1);
    let flags: Vec<_> = packets.iter().map(|p| format!("{:?}", p.options)).collect();
    assert_eq!(flags, ["[Flags(2)]", "[Flags(1)]"]);
    let statistics = format!("{:?}", statistics.expect("a statistics block").options);
    assert_eq!(statistics, "[IsbIfRecv(2), IsbOsDrop(0)]");
}

#[test]
fn a_slow_file_never_stops_the_path_and_what_is_missing_is_counted() {
    let (open, gate): (Sender<()>, _) = channel();
    let options = CaptureOptions {
        waiting_frames: 4,
        ..CaptureOptions::default()
    };
    let file = CaptureFile::start(Gate(gate), options).unwrap();
    let (mut near, mut far) = captured(&file, CableOptions::default());
    for i in 0..500 {
        assert_eq!(send(&mut near, Nanos(i), &[1; 60]), 1);
        receive(&mut far, Nanos(i));
    }
    drop(open);
    let summary = file.finish().unwrap();
    assert_eq!(summary.written + summary.left_out, 500);
    assert!(summary.left_out > 0, "{summary:?}");
}

#[test]
fn a_frame_that_the_ring_refused_is_captured_once() {
    let file = CaptureFile::start(Bytes::default(), CaptureOptions::default()).unwrap();
    let (mut near, mut far) = captured(
        &file,
        CableOptions {
            wire_frames: 1,
            ..CableOptions::default()
        },
    );
    assert_eq!(send(&mut near, Nanos(1), &[1; 60]), 1);
    assert_eq!(send(&mut near, Nanos(2), &[2; 60]), 0);
    receive(&mut far, Nanos(3));
    assert_eq!(send(&mut near, Nanos(4), &[2; 60]), 1);
    assert_eq!(
        file.finish().unwrap(),
        CaptureSummary {
            written: 2,
            left_out: 0
        }
    );
}

#[test]
fn a_full_disk_is_told_at_the_end_and_traffic_goes_on() {
    let file = CaptureFile::start(Full, CaptureOptions::default()).unwrap();
    let (mut near, mut far) = captured(&file, CableOptions::default());
    for i in 0..100 {
        assert_eq!(send(&mut near, Nanos(i), &[1; 60]), 1);
        assert_eq!(receive(&mut far, Nanos(i)), 1);
    }
    let text = file.finish().unwrap_err().to_string();
    assert!(text.contains("100 were left out"), "{text}");
}
