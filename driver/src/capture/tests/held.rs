//! A sift between the frames and the file.

use super::*;

/// Holds back frames of 100 bytes until the end, comments on those of 60, wants
/// none of 70, and gives up those of 80.
#[derive(Default)]
struct ByLen(Vec<Captured>);

impl Sift for ByLen {
    fn frame(&mut self, mut frame: Captured, out: &mut Sifted) {
        match frame.original_len {
            60 => {
                frame.comment = "sechzig · 60".into();
                out.keep(frame);
            }
            70 => out.refuse(&frame),
            80 => out.lose(&frame, "eighty"),
            _ => self.0.push(frame),
        }
    }

    fn tick(&mut self, _: Nanos, _: &mut Sifted) {}

    fn end(&mut self, out: &mut Sifted) {
        self.0.drain(..).for_each(|frame| out.keep(frame));
    }
}

fn start(sink: Memory) -> CaptureFile {
    let files = Single(Some(Box::new(sink)));
    let sift = Box::new(ByLen::default());
    CaptureFile::start_in(Box::new(files), CaptureOptions::default(), Some(sift)).unwrap()
}

#[test]
fn a_sift_holds_back_comments_refuses_and_gives_up() {
    let sink = Memory::default();
    let handle = start(sink.clone());
    let mut a = handle.wrap(ends().0);
    for len in [100, 60, 70, 80, 80, 60] {
        offer(&mut a, 1, len, 1);
    }
    let summary = handle.finish().unwrap();
    assert_eq!(
        (summary.written, summary.filtered, summary.left_out),
        (3, 1, 2)
    );
    assert_eq!(
        summary.causes.into_iter().collect::<Vec<_>>(),
        [("eighty", 2)]
    );
    let bytes = sink.bytes.lock().unwrap();
    let mut found = Vec::new();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    while let Some(block) = reader.next_block() {
        match block.unwrap().0 {
            Block::EnhancedPacket(b) => found.push((b.data.len(), options_of(&b.options))),
            Block::InterfaceStatistics(b) => {
                let accepted = InterfaceStatisticsOption::IsbFilterAccept(5);
                assert!(b.options.contains(&accepted), "{:?}", b.options);
            }
            _ => {}
        }
    }
    let comment = "sechzig · 60".to_owned();
    let want = [
        (60, (comment.clone(), 0)),
        (60, (comment, 2)),
        (100, (String::new(), 0)),
    ];
    assert_eq!(found, want);
}

/// Comment and drop count.
fn options_of(options: &[EnhancedPacketOption<'_>]) -> (String, u64) {
    let mut found = (String::new(), 0);
    for option in options {
        match option {
            EnhancedPacketOption::DropCount(n) => found.1 = *n,
            EnhancedPacketOption::Common(CommonOption::Comment(text)) => {
                found.0 = text.clone().into_owned();
            }
            _ => {}
        }
    }
    found
}

#[test]
fn frames_that_a_sift_holds_keep_no_buffer_of_the_path() {
    let options = CaptureOptions {
        waiting_frames: 4,
        ..CaptureOptions::default()
    };
    let files = Box::new(Single(Some(Box::new(Memory::default()))));
    let sift = Box::new(ByLen::default());
    let handle = CaptureFile::start_in(files, options, Some(sift)).unwrap();
    let (a, mut b) = ends();
    let mut a = handle.wrap(a);
    for n in 0..50 {
        offer(&mut a, n, 100, 2);
        receive(&mut b, n);
        wait_until("the writer has them", || {
            handle.plug.shared.records.is_empty()
        });
    }
    let summary = handle.finish().unwrap();
    assert_eq!((summary.written, summary.left_out), (100, 0));
}

#[test]
fn frames_that_a_sift_holds_when_the_disk_is_full_are_counted() {
    let sink = Memory::default();
    let handle = start(sink.clone());
    let mut a = handle.wrap(ends().0);
    offer(&mut a, 0, 100, 3);
    sink.fails.store(true, Ordering::SeqCst);
    offer(&mut a, 0, 60, 2);
    wait_until("it failed", || handle.stats().failed);
    let CaptureError::Write { summary, .. } = handle.finish().unwrap_err() else {
        panic!("not as it should");
    };
    assert_eq!((summary.written, summary.left_out), (0, 5));
}
