//! Calling curl and reading what it got.

use wirepath_tests::Lab;
use wirepath_tests::http::Reply;

/// Runs `curl ARGS` in the lab and returns the last reply it got.
#[track_caller]
pub fn curl(lab: &Lab, args: &[&str]) -> Reply {
    let common = ["-sS", "-i", "-g", "--http1.1", "--max-time", "60"];
    let out = lab.run("curl", &[&common, args].concat()).ok().stdout;
    parse(&out)
}

fn parse(mut out: &[u8]) -> Reply {
    loop {
        let end = out
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .expect("a head");
        let head = std::str::from_utf8(&out[..end]).unwrap();
        out = &out[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let status = status.parse().unwrap();
        if (100..200).contains(&status) {
            continue;
        }
        let fields = lines
            .map(|line| line.split_once(": ").expect("name: value"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        return Reply {
            status,
            fields,
            body: out.to_vec(),
        };
    }
}
