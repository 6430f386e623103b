//! Behaviours: lines that stall, break and refuse. Owns its list. Every wait has an end, so that whoever waits
//! without one is still done some day.

use std::time::Duration;

use super::{Behaviour, Honest};
use crate::hostile::ask::Ask;
use crate::hostile::reply::{End, Page, Reply, Step};
use crate::hostile::version::{FIRST, SIZE, Version};

/// A file that is worth several connections.
const LARGE: Version = Version { seed: 7, size: (24 << 20) + 99 };
const HALF: usize = (SIZE / 2) as usize;

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new(
        "stalls",
        "sends half of the file, then nothing for two seconds, then resets, once",
        stalls,
    ),
    Behaviour::new("trickles", "sends some bytes one by one, and the rest slowly", trickles),
    Behaviour::new("resets", "resets the line half way, twice", resets),
    Behaviour::new("resets-before", "resets the line before an answer, twice", resets_before),
    Behaviour::new("closes", "closes every connection behind the answer, without saying so", |ask| {
        Page::tagged(FIRST).answer(ask).end(End::Close)
    })
    .breaks(),
    Behaviour::new("two-connections", "answers 503 to more than two requests at once", two_connections)
        .versions(&[LARGE])
        .requests(96),
    Behaviour::new(
        "refuses-for-a-while",
        "redirects to a port that refuses connections for a second",
        |ask| {
            if ask.query.is_empty() {
                let to = format!("http://127.0.0.1:{}{}?late", ask.late_port, ask.path);
                return Reply::redirect("302 Found", &to);
            }
            Page::tagged(FIRST).answer(ask)
        },
    )
    .late()
    .requests(48),
    Behaviour::new("interim-flood", "sends 500 interim answers before each answer", interim_flood).breaks(),
    Behaviour::new("field-flood", "sends 20,000 fields", field_flood).honest(Honest::Either),
    Behaviour::new("not-http", "answers in no protocol at all", |_| Reply {
        first: "SSH-2.0-OpenSSH_9.2".to_owned(),
        fields: Vec::new(),
        ..Reply::empty("200 OK").end(End::Close)
    })
    .honest(Honest::Nothing(&[1, 5, 7])),
];

fn stalls(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    if ask.at.number > 1 {
        return reply;
    }
    let half = reply.file_bytes()[..HALF].to_vec();
    reply.body(vec![Step::File(half), Step::Pause(Duration::from_secs(2))]).end(End::Reset)
}

fn trickles(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    let bytes = reply.file_bytes();
    let (single, rest) = bytes.split_at(bytes.len().min(50));
    let pause = || Step::Pause(Duration::from_millis(5));
    let mut body = Vec::new();
    for byte in single {
        body.extend([Step::File(vec![*byte]), pause()]);
    }
    for piece in rest.chunks(64 << 10) {
        body.extend([Step::File(piece.to_vec()), pause()]);
    }
    reply.body(body)
}

fn resets(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    if ask.at.number <= 2 {
        let half = reply.file_bytes().len() / 2;
        return reply.cut(half).end(End::Reset);
    }
    reply
}

fn resets_before(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    if ask.at.number <= 2 {
        return Reply { first: String::new(), fields: Vec::new(), body: Vec::new(), ..reply.end(End::Reset) };
    }
    reply
}

/// Slow enough that several connections would pay.
fn two_connections(ask: &Ask) -> Reply {
    if ask.at.active > 2 {
        return Reply::empty("503 Service Unavailable");
    }
    let reply = Page::tagged(LARGE).answer(ask);
    let bytes = reply.file_bytes();
    let slow = |piece: &[u8]| [Step::File(piece.to_vec()), Step::Pause(Duration::from_millis(5))];
    reply.body(bytes.chunks(256 << 10).flat_map(slow).collect())
}

fn interim_flood(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    Reply { before: b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n".repeat(500), ..reply }
}

fn field_flood(ask: &Ask) -> Reply {
    let mut reply = Page::tagged(FIRST).answer(ask);
    reply.fields.extend((0..20_000).map(|at| (format!("X-Flood-{at}"), b"and another one".to_vec())));
    reply
}
