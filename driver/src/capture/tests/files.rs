//! Several files, and what is in them beside frames.

use super::*;

/// Files in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Memory>>>);

impl Files for Shelf {
    fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
        let memory = Memory::default();
        self.0.lock().unwrap().push(memory.clone());
        Ok(Box::new(memory))
    }
}

impl Shelf {
    fn files(&self) -> Vec<Vec<u8>> {
        let files = self.0.lock().unwrap();
        files
            .iter()
            .map(|m| m.bytes.lock().unwrap().clone())
            .collect()
    }
}

#[test]
fn each_file_of_a_size_is_whole_by_itself() {
    let shelf = Shelf::default();
    let options = CaptureOptions {
        file_bytes: Some(2_000),
        ..CaptureOptions::default()
    };
    let handle = CaptureFile::start_in(Box::new(shelf.clone()), options, None).unwrap();
    handle.secrets().add("CLIENT_RANDOM aa bb");
    let (a, mut b) = ends();
    let mut a = handle.wrap(a);
    for n in 0..10 {
        offer(&mut a, n, 500, 4);
        assert_eq!(receive(&mut b, n), 4);
    }
    let summary = handle.finish().unwrap();
    let files = shelf.files();
    assert_eq!((summary.written, summary.left_out), (40, 0));
    assert_eq!(summary.files, files.len() as u64);
    assert!(files.len() >= 10, "{} files", files.len());
    let (mut packets_in_all, mut counted_in_all) = (0, 0);
    for file in &files {
        // The limit, one more frame and the statistics.
        assert!(file.len() < 2_000 + 1_000, "{} bytes", file.len());
        let (names, packets, counts) = read(&without_secrets(file));
        assert_eq!(names, ["cable a"]);
        let [(_, left_out, written)] = counts[..] else {
            panic!("{counts:?}");
        };
        assert_eq!((left_out, written), (0, packets.len() as u64));
        packets_in_all += packets.len();
        counted_in_all += written;
    }
    assert_eq!((packets_in_all, counted_in_all), (40, 40));
}

/// The file, after looking at the decryption secrets that it has behind its
/// first block.
fn without_secrets(file: &[u8]) -> Vec<u8> {
    let len = |at: usize| u32::from_ne_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
    let begin = len(0);
    let end = begin + len(begin);
    let secrets = &file[begin..end];
    assert_eq!(secrets[..4], 10u32.to_ne_bytes());
    assert_eq!(secrets[8..12], 0x544c_534b_u32.to_ne_bytes());
    assert_eq!(secrets[12..16], 20u32.to_ne_bytes());
    assert_eq!(&secrets[16..36], b"CLIENT_RANDOM aa bb\n");
    [&file[..begin], &file[end..]].concat()
}

#[test]
fn a_file_of_an_age_is_followed_by_another_once_it_has_frames() {
    let shelf = Shelf::default();
    let options = CaptureOptions {
        file_age: Some(Duration::from_millis(1)),
        ..CaptureOptions::default()
    };
    let handle = CaptureFile::start_in(Box::new(shelf.clone()), options, None).unwrap();
    let mut a = handle.wrap(ends().0);
    for n in 1..=3 {
        offer(&mut a, n, 60, 1);
        wait_until("the next file is begun", || handle.stats().files == n + 1);
    }
    handle.finish().unwrap();
    let files = shelf.files();
    let frames: Vec<usize> = files.iter().map(|file| read(file).1.len()).collect();
    assert_eq!(frames, [1, 1, 1, 0]);
}

#[test]
fn a_file_that_cannot_be_begun_ends_the_capture() {
    struct Few(Shelf, usize);
    impl Files for Few {
        fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
            self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            self.0.next()
        }
    }
    let shelf = Shelf::default();
    let options = CaptureOptions {
        file_bytes: Some(1),
        ..CaptureOptions::default()
    };
    let few = Few(shelf.clone(), 2);
    let handle = CaptureFile::start_in(Box::new(few), options, None).unwrap();
    let mut a = handle.wrap(ends().0);
    offer(&mut a, 0, 60, 5);
    wait_until("it failed", || handle.stats().failed);
    offer(&mut a, 0, 60, 5);
    let CaptureError::Write { summary, source } = handle.finish().unwrap_err() else {
        panic!("not as it should");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!((summary.written, summary.left_out), (2, 8));
}

#[test]
fn a_reader_that_stalls_for_good_does_not_keep_the_end() {
    let (_never, stuck) = mpsc::channel();
    let handle = CaptureFile::start(Stuck(stuck), CaptureOptions::default()).unwrap();
    let mut a = handle.wrap(ends().0);
    offer(&mut a, 0, 60, 7);
    let CaptureError::Stuck { summary } = handle.finish().unwrap_err() else {
        panic!("not as it should");
    };
    assert_eq!((summary.written, summary.left_out), (0, 7));
}
