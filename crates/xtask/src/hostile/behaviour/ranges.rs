//! Behaviours: ranges that are ignored, misplaced or misnamed. Owns its list.

use super::{Behaviour, Honest};
use crate::hostile::ask::{Ask, Asked};
use crate::hostile::reply::{End, Page, Reply, Step};
use crate::hostile::version::{FIRST, SIZE};

const PIECE: u64 = 256 << 10;

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new("ignores-ranges", "answers 200 with the whole to every range", |_| {
        Page::tagged(FIRST).whole()
    })
    .breaks(),
    Behaviour::new("shorter-206", "sends at most 256 KiB of what was asked", shorter).requests(48),
    Behaviour::new("starts-earlier", "starts 4,096 bytes before what was asked, and says so", starts_earlier)
        .breaks(),
    Behaviour::new("starts-later", "starts 4,096 bytes behind what was asked, and says so", starts_later)
        .breaks(),
    Behaviour::new(
        "starts-at-zero",
        "starts at the first byte when a download is resumed, as a 206",
        starts_at_zero,
    )
    .breaks(),
    Behaviour::new("wrong-range", "sends the bytes from 0 on and names those that were asked", wrong_range)
        .breaks()
        .digest()
        .honest(Honest::Either),
    Behaviour::new("wrong-total", "says another total when a download is resumed", wrong_total).breaks(),
    Behaviour::new("star-total", "says * for the total", star_total).breaks(),
    Behaviour::new("no-content-range", "sends 206 without Content-Range", no_content_range).breaks(),
    Behaviour::new("two-content-ranges", "sends two Content-Ranges that differ", two_content_ranges).breaks(),
    Behaviour::new("other-unit", "sends 206 with a Content-Range in lines", other_unit).breaks(),
    Behaviour::new(
        "length-not-range",
        "sends a Content-Length that differs from Content-Range",
        length_not_range,
    )
    .breaks()
    .honest(Honest::Either),
    Behaviour::new("multipart", "sends multipart/byteranges for one range", multipart).breaks(),
    Behaviour::new(
        "part-unasked",
        "sends 206 with the first half to a request without a range",
        part_unasked,
    )
    .breaks(),
    Behaviour::new("whole-with-range", "sends 200 with a part and its Content-Range", whole_with_range)
        .breaks(),
    Behaviour::new("no-range-at-all", "answers 416 to every range", no_range_at_all),
    Behaviour::new("no-range-on-resume", "answers 416 when a download is resumed", no_range_on_resume)
        .breaks(),
    Behaviour::new(
        "no-range-no-size",
        "answers 416 without a Content-Range when a download is resumed",
        no_range_no_size,
    )
    .breaks(),
];

fn honest(ask: &Ask) -> Reply {
    Page::tagged(FIRST).answer(ask)
}

/// Returns the first byte that is asked for.
fn start(ask: &Ask) -> u64 {
    match ask.range() {
        Some(Asked::From(first, _)) => first.min(SIZE - 1),
        Some(Asked::Last(count)) => SIZE.saturating_sub(count),
        None => 0,
    }
}

fn shorter(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !reply.is(206) || reply.file_bytes().len() as u64 <= PIECE {
        return reply;
    }
    Page::tagged(FIRST).part(start(ask), start(ask) + PIECE)
}

fn starts_earlier(ask: &Ask) -> Reply {
    if !ask.resumes() || !honest(ask).is(206) {
        return honest(ask);
    }
    Page::tagged(FIRST).part(start(ask).saturating_sub(4_096), SIZE)
}

fn starts_later(ask: &Ask) -> Reply {
    if !ask.resumes() || !honest(ask).is(206) {
        return honest(ask);
    }
    Page::tagged(FIRST).part((start(ask) + 4_096).min(SIZE - 1), SIZE)
}

fn starts_at_zero(ask: &Ask) -> Reply {
    if ask.resumes() && honest(ask).is(206) { Page::tagged(FIRST).part(0, SIZE) } else { honest(ask) }
}

/// Nothing in the fields shows the lie; only a digest does.
fn wrong_range(ask: &Ask) -> Reply {
    let reply = honest(ask);
    let size = reply.file_bytes().len() as u64;
    if reply.is(206) { reply.body(vec![Step::File(FIRST.bytes(0, size))]) } else { reply }
}

fn wrong_total(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !ask.resumes() || !reply.is(206) {
        return reply;
    }
    let range = reply
        .field("content-range")
        .unwrap_or_default()
        .replace(&SIZE.to_string(), &(SIZE + 1_000).to_string());
    reply.with("Content-Range", range)
}

fn star_total(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !reply.is(206) {
        return reply;
    }
    let range = reply.field("content-range").unwrap_or_default().replace(&format!("/{SIZE}"), "/*");
    reply.with("Content-Range", range)
}

fn no_content_range(ask: &Ask) -> Reply {
    honest(ask).without("Content-Range")
}

fn two_content_ranges(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if reply.is(206) { reply.and("Content-Range", format!("bytes 0-9/{SIZE}")) } else { reply }
}

fn other_unit(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if reply.is(206) { reply.with("Content-Range", "lines 0-9/100") } else { reply }
}

fn length_not_range(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !ask.resumes() || !reply.is(206) {
        return reply;
    }
    // What comes is as long as the length says: 500 bytes are missing from what the range says.
    let bytes = reply.file_bytes();
    let fewer = bytes[..bytes.len().saturating_sub(500)].to_vec();
    reply.with("Content-Length", fewer.len()).body(vec![Step::File(fewer)]).end(End::Close)
}

fn multipart(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !reply.is(206) {
        return reply;
    }
    let range = reply.field("content-range").unwrap_or_default();
    let head =
        format!("--border\r\nContent-Type: application/octet-stream\r\nContent-Range: {range}\r\n\r\n");
    let tail = "\r\n--border--\r\n";
    let bytes = reply.file_bytes();
    let length = head.len() + bytes.len() + tail.len();
    reply
        .without("Content-Range")
        .with("Content-Type", "multipart/byteranges; boundary=border")
        .with("Content-Length", length)
        .body(vec![Step::Raw(head.into_bytes()), Step::File(bytes), Step::Raw(tail.as_bytes().to_vec())])
}

fn part_unasked(ask: &Ask) -> Reply {
    if ask.range().is_none() { Page::tagged(FIRST).part(0, SIZE / 2) } else { honest(ask) }
}

fn whole_with_range(ask: &Ask) -> Reply {
    let mut reply = honest(ask);
    if reply.is(206) && ask.resumes() {
        "HTTP/1.1 200 OK".clone_into(&mut reply.first);
    }
    reply
}

fn unsatisfied(size: Option<u64>) -> Reply {
    let reply = Reply::empty("416 Range Not Satisfiable").with("ETag", FIRST.tag());
    match size {
        Some(size) => reply.with("Content-Range", format!("bytes */{size}")),
        None => reply,
    }
}

fn no_range_at_all(ask: &Ask) -> Reply {
    if ask.range().is_some() { unsatisfied(Some(SIZE)) } else { honest(ask) }
}

fn no_range_on_resume(ask: &Ask) -> Reply {
    if ask.resumes() { unsatisfied(Some(SIZE)) } else { honest(ask) }
}

fn no_range_no_size(ask: &Ask) -> Reply {
    if ask.resumes() { unsatisfied(None) } else { honest(ask) }
}
