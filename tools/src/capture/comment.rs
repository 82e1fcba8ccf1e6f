//! What a frame of a capture is told to be, in a line.

use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use wirepath_driver::Nanos;
use wirepath_driver::capture::{Captured, Direction};
use wirepath_driver::trace::fd_number;

use super::packet::Segment;
use super::told::{Flow, Request};

/// Where a segment's data is in its stream.
pub fn place(frame: &Captured, segment: &Segment, flow: &Flow, isn: Option<u32>) -> Range<u64> {
    let len = u64::from(segment.len);
    let start = match frame.direction {
        Direction::Out => frame.tag.offset,
        Direction::In => match isn {
            Some(isn) => {
                let low = segment.seq.wrapping_sub(isn).wrapping_sub(1);
                extend(low, latest(flow))
            }
            None => arrival(frame.at, len, flow).unwrap_or_else(|| latest(flow)),
        },
    };
    start..start + len
}

/// The last byte known of the stream in.
fn latest(flow: &Flow) -> u64 {
    let arrived = flow.arrivals.back().map_or(0, |part| part.bytes.end);
    let mut heads = flow.requests.iter().rev().map(|r| r.head.end);
    let parsed = heads.find(|end| *end != u64::MAX).unwrap_or(0);
    arrived.max(parsed)
}

/// The offset nearest to `near` whose low half is `low`: sequence numbers have
/// 32 bits (RFC 9293 §3.4).
fn extend(low: u32, near: u64) -> u64 {
    let ahead = low.wrapping_sub(near as u32) as i32;
    near.saturating_add_signed(ahead.into())
}

/// The offset that the stack gave a segment of that length at that time.
fn arrival(at: Nanos, len: u64, flow: &Flow) -> Option<u64> {
    let fits = |bytes: &Range<u64>| bytes.end - bytes.start == len;
    let distance = |other: Nanos| other.0.abs_diff(at.0);
    let parts = flow.arrivals.iter().filter(|part| fits(&part.bytes));
    let nearest = parts.min_by_key(|part| distance(part.at));
    nearest.map(|part| part.bytes.start)
}

/// The comment of a frame of a connection, whose data is at `bytes`.
pub fn comment(frame: &Captured, bytes: &Range<u64>, flow: &Flow, is_repeat: bool) -> String {
    let mut text = format!("fd {}", fd_number(flow.id));
    if bytes.is_empty() {
        return text;
    }
    if is_repeat {
        text += " · sent once more";
    }
    let asked = match frame.direction {
        Direction::In => flow.request_in(bytes),
        Direction::Out => flow.request_out(bytes),
    };
    if let Some(asked) = asked {
        tell(&mut text, asked, frame.direction);
    }
    if frame.direction == Direction::Out
        && let Some(at) = flow.written_at(bytes)
    {
        let waited = frame.at.since(at);
        let _ = write!(text, " · written {} before", Span(waited));
    }
    text
}

fn tell(text: &mut String, asked: &Request, direction: Direction) {
    if asked.goroutine != 0 {
        let _ = write!(text, " · goroutine {}", asked.goroutine);
    }
    let line: String = String::from_utf8_lossy(&asked.text)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let _ = write!(text, " · {line}");
    match &asked.answer {
        None => *text += " → not answered yet",
        Some(answer) => {
            let _ = write!(text, " → {}", answer.status);
            if !answer.route.is_empty() {
                let _ = write!(text, " by {}", answer.route);
            }
        }
    }
    if direction == Direction::Out {
        return;
    }
    if let Some(queued) = asked.queued {
        let _ = write!(text, " · queued {}", Span(queued));
    }
    if let Some(took) = asked.answer.as_ref().and_then(|answer| answer.took) {
        let _ = write!(text, " · handler {}", Span(took));
    }
}

/// A duration, with the unit that fits.
struct Span(Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1e-3 {
            write!(f, "{:.1} µs", seconds * 1e6)
        } else if seconds < 1.0 {
            write!(f, "{:.2} ms", seconds * 1e3)
        } else {
            write!(f, "{seconds:.2} s")
        }
    }
}

#[cfg(test)]
mod tests {
    use wirepath_driver::SegmentTag;

    use super::super::told::testing::{key, request, told};
    use super::*;

    fn frame(direction: Direction, at: u64) -> Captured {
        Captured {
            interface: 0,
            direction,
            at: Nanos(at),
            original_len: 0,
            bytes: Vec::new(),
            tag: SegmentTag::default(),
            comment: String::new(),
        }
    }

    #[test]
    fn a_comment_says_who_what_and_how_long() {
        let told = told(request(503));
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        let about = |direction, at, bytes: Range<u64>, again| {
            comment(&frame(direction, at), &bytes, flow, again)
        };
        assert_eq!(
            about(Direction::In, 1_900, 0..40, false),
            "fd 3 · goroutine 7 · GET /users/17 → 503 by /users/{id} · queued 0.5 µs · handler 4.0 µs"
        );
        assert_eq!(
            about(Direction::Out, 8_500, 0..120, false),
            "fd 3 · goroutine 7 · GET /users/17 → 503 by /users/{id} · written 1.5 µs before"
        );
        assert!(about(Direction::Out, 8_500, 0..120, true).starts_with("fd 3 · sent once more · "));
        assert_eq!(about(Direction::Out, 1_200, 0..0, false), "fd 3");
    }

    #[test]
    fn a_request_in_hand_has_no_answer_yet() {
        let mut events = request(200);
        events.truncate(7);
        let told = told(events);
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        let said = comment(&frame(Direction::In, 1_900), &(0..40), flow, false);
        assert!(said.contains("GET /users/17 → not answered yet"), "{said}");
    }

    #[test]
    fn bytes_are_found_by_sequence_number_or_by_arrival() {
        let told = told(request(200));
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        let segment = Segment {
            seq: 5,
            len: 40,
            is_syn: false,
            is_ack: true,
        };
        let at = |isn| place(&frame(Direction::In, 1_900), &segment, flow, isn);
        assert_eq!(at(Some(4)), 0..40);
        assert_eq!(at(None), 0..40, "the arrival of 40 bytes");
        assert_eq!(extend(3, 0x1_ffff_fff0), 0x2_0000_0003);
        assert_eq!(extend(0xffff_fff0, 0x2_0000_0003), 0x1_ffff_fff0);
        assert_eq!(extend(u32::MAX, 0), 0, "before the beginning");
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (nanos, want) in [
            (1_500, "1.5 µs"),
            (2_345_678, "2.35 ms"),
            (3_000_000_000, "3.00 s"),
        ] {
            assert_eq!(Span(Duration::from_nanos(nanos)).to_string(), want);
        }
    }
}
