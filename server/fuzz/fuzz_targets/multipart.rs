//! Multipart bodies: however they are cut, the parts are the same.

#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use wirepath::MultipartReader;

/// So many bytes a read.
struct Cut<'b>(&'b [u8], usize);

impl Read for Cut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.0.len().min(self.1).min(into.len());
        into[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn parts(body: &[u8], cut: usize) -> Vec<String> {
    let mut told = Vec::new();
    let kind = b"multipart/form-data; boundary=b";
    let mut reader = MultipartReader::new(kind, Cut(body, cut)).expect("a boundary");
    loop {
        match reader.next_part() {
            Ok(Some(mut part)) => {
                let mut content = Vec::new();
                let read = part.read_to_end(&mut content).map_err(|e| e.kind());
                let names = (part.form_name(), part.file_name());
                told.push(format!(
                    "{names:?} {:?} {read:?} {content:?}",
                    part.headers.len()
                ));
            }
            Ok(None) => return told,
            Err(e) => {
                told.push(e.to_string());
                return told;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, body)) = data.split_first() else {
        return;
    };
    assert_eq!(parts(body, usize::MAX), parts(body, usize::from(cut) + 1));
});
