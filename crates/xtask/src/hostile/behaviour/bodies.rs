//! Behaviours: lengths, framing and what a body is worth. Owns its list.

use super::{Behaviour, Honest};
use crate::hostile::ask::Ask;
use crate::hostile::reply::{End, Page, Reply, Step};
use crate::hostile::version::{FIRST, SIZE, Version};

const EMPTY: Version = Version { seed: 4, size: 0 };
const ONE: Version = Version { seed: 5, size: 1 };
const SHORT: Version = Version { seed: 1, size: SIZE / 2 };
const HALF: usize = (SIZE / 2) as usize;
const TEN_TIB: u64 = 10 << 40;

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new("honest", "does everything right", honest),
    Behaviour::new("no-validator", "says nothing about the version", bare),
    Behaviour::new("cut-once", "breaks off half way, then does everything right", honest).breaks(),
    Behaviour::new("cut-each", "breaks every answer off after 512 KiB", cut_each),
    Behaviour::new(
        "cut-no-length",
        "has no Content-Length and breaks off, the total is in Content-Range",
        cut_no_length,
    ),
    Behaviour::new("longer-body", "sends 1,000 bytes more than announced", longer_body),
    Behaviour::new(
        "longer-range",
        "sends 1,000 bytes more than Content-Range says, without a length",
        longer_range,
    )
    .breaks(),
    Behaviour::new("two-lengths", "sends two Content-Lengths that differ", two_lengths)
        .honest(Honest::Either),
    Behaviour::new("length-of-letters", "sends a Content-Length that is no number", length_of_letters)
        .honest(Honest::Either),
    Behaviour::new("chunked", "sends chunks and no length", chunked),
    Behaviour::new("chunked-cut", "breaks off between two chunks, without the last one", chunked_cut),
    Behaviour::new("chunked-reset", "breaks off inside a chunk", chunked).breaks(),
    Behaviour::new("bad-chunk", "sends a chunk whose length is no number, once", bad_chunk),
    Behaviour::new("http10", "speaks HTTP/1.0 and sends no length", http10),
    Behaviour::new("http10-cut", "speaks HTTP/1.0, sends no length and only half of the file", http10_cut)
        .honest(Honest::Unprovable),
    Behaviour::new(
        "http10-reset",
        "speaks HTTP/1.0 without a length and resets the line half way, once",
        http10_reset,
    ),
    Behaviour::new("empty", "has an empty file", |_| Page::tagged(EMPTY).whole()).versions(&[EMPTY]),
    Behaviour::new("empty-416", "has an empty file and answers 416 to any range of it", |ask| {
        Page::tagged(EMPTY).answer(ask)
    })
    .versions(&[EMPTY]),
    Behaviour::new("one-byte", "has a file of one byte", |ask| Page::tagged(ONE).answer(ask))
        .versions(&[ONE]),
    Behaviour::new("ten-tib", "claims 10 TiB", ten_tib).honest(Honest::Nothing(&[9])),
    Behaviour::new("gzip", "sends gzip although identity was asked for", gzip).honest(Honest::Either),
    Behaviour::new("gzip-on-resume", "sends gzip when a download is resumed", gzip_on_resume).breaks(),
];

fn honest(ask: &Ask) -> Reply {
    Page::tagged(FIRST).answer(ask)
}

fn bare(ask: &Ask) -> Reply {
    Page::bare(FIRST).answer(ask)
}

fn cut_each(ask: &Ask) -> Reply {
    honest(ask).cut(512 << 10)
}

fn cut_no_length(ask: &Ask) -> Reply {
    let reply = honest(ask).without("Content-Length").end(End::Close);
    if ask.at.number == 1 && ask.range().is_some() { reply.cut(HALF) } else { reply }
}

fn longer_body(ask: &Ask) -> Reply {
    let mut reply = honest(ask).end(End::Close);
    reply.body.push(Step::Raw(vec![b'x'; 1_000]));
    reply
}

fn longer_range(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if reply.is(206) { longer_body(ask).without("Content-Length") } else { reply }
}

fn two_lengths(ask: &Ask) -> Reply {
    honest(ask).and("Content-Length", "17").end(End::Close)
}

fn length_of_letters(ask: &Ask) -> Reply {
    honest(ask).with("Content-Length", "many").end(End::Close)
}

fn chunked(ask: &Ask) -> Reply {
    honest(ask).chunked()
}

fn chunked_cut(ask: &Ask) -> Reply {
    let mut reply = honest(ask).chunked();
    if ask.at.number == 1 {
        // Whole chunks, each of three steps.
        reply.body.truncate(3 * 20);
        reply.end = End::Close;
    }
    reply
}

fn bad_chunk(ask: &Ask) -> Reply {
    let mut reply = honest(ask).chunked();
    if ask.at.number == 1 {
        reply.body[3 * 20] = Step::Raw(b"zz\r\n".to_vec());
    }
    reply
}

fn http10(_: &Ask) -> Reply {
    Page::bare(FIRST).whole().old()
}

fn http10_cut(_: &Ask) -> Reply {
    Page::bare(SHORT).whole().old()
}

fn http10_reset(ask: &Ask) -> Reply {
    if ask.at.number == 1 { http10(ask).cut(HALF).end(End::Reset) } else { http10(ask) }
}

fn ten_tib(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask).end(End::Close);
    if reply.is(200) {
        return reply.with("Content-Length", TEN_TIB);
    }
    let Some(first) = reply.field("content-range").and_then(|range| range[6..].split('-').next()) else {
        return reply;
    };
    let first = first.parse::<u64>().unwrap_or_default();
    let range = format!("bytes {first}-{}/{TEN_TIB}", TEN_TIB - 1);
    reply.with("Content-Range", range).with("Content-Length", TEN_TIB - first)
}

/// Wraps bytes as gzip does, in stored blocks: coded, and no shorter.
fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut coded = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.chunks(60_000).count();
    for (at, block) in bytes.chunks(60_000).enumerate() {
        let length = u16::try_from(block.len()).expect("a block is shorter than 64 KiB");
        coded.push(u8::from(at + 1 == blocks));
        coded.extend(length.to_le_bytes());
        coded.extend((!length).to_le_bytes());
        coded.extend(block);
    }
    let crc = bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    coded.extend((!crc).to_le_bytes());
    coded.extend(u32::try_from(bytes.len()).expect("the file is small").to_le_bytes());
    coded
}

fn gzip(_: &Ask) -> Reply {
    let coded = gzip_of(&FIRST.whole());
    let reply = Page::tagged(FIRST).tag("\"coded\"").whole().with("Content-Length", coded.len());
    reply.with("Content-Encoding", "gzip").body(vec![Step::File(coded)])
}

fn gzip_on_resume(ask: &Ask) -> Reply {
    let reply = honest(ask);
    if !ask.resumes() || !reply.is(206) {
        return reply;
    }
    let coded = gzip_of(&reply.file_bytes());
    reply.with("Content-Length", coded.len()).with("Content-Encoding", "gzip").body(vec![Step::File(coded)])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_called_gzip_is_gzip() {
        let bytes = FIRST.bytes(0, 200_000);
        let mut child = Command::new("gzip")
            .args(["-d", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let coded = gzip_of(&bytes);
        let writing = std::thread::spawn(move || input.write_all(&coded));
        assert!(child.wait_with_output().unwrap().stdout == bytes);
        writing.join().unwrap().unwrap();
    }
}
