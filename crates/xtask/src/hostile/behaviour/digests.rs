//! Behaviours: digests, right and wrong. Owns its list.

use data_encoding::BASE64;

use super::{Behaviour, Honest};
use crate::hostile::ask::Ask;
use crate::hostile::reply::{Page, Reply, Step};
use crate::hostile::version::{FIRST, SECOND, md5, sha256};

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new("repr-digest", "sends a Repr-Digest that is right", |ask| {
        sworn(Page::tagged(FIRST).answer(ask))
    })
    .breaks(),
    Behaviour::new("repr-digest-wrong", "sends a Repr-Digest, and one byte of the file is another", |ask| {
        sworn(spoil(Page::tagged(FIRST).answer(ask)))
    })
    .honest(Honest::Nothing(&[7])),
    Behaviour::new(
        "repr-digest-changed",
        "has another version under the same ETag, with the digest of the first",
        |ask| {
            let version = if ask.at.broken { SECOND } else { FIRST };
            sworn(Page::tagged(version).tag("\"same\"").answer(ask))
        },
    )
    .breaks()
    .honest(Honest::Nothing(&[7])),
    Behaviour::new("content-md5", "sends a Content-MD5 that is right", with_md5),
    Behaviour::new("content-md5-wrong", "sends a Content-MD5, and one byte of the file is another", |ask| {
        spoil(with_md5(ask))
    })
    .honest(Honest::Nothing(&[7])),
    Behaviour::new("known-digest", "does everything right, and the digest is known", |ask| {
        Page::tagged(FIRST).answer(ask)
    })
    .digest(),
    Behaviour::new("known-digest-wrong", "sends other bytes than those whose digest is known", |ask| {
        Page::tagged(SECOND).answer(ask)
    })
    .digest()
    .honest(Honest::Nothing(&[7])),
];

fn sworn(reply: Reply) -> Reply {
    reply.with("Repr-Digest", format!("sha-256=:{}:", BASE64.encode(sha256())))
}

/// The field is about the bytes of this body (RFC 1864): it stands where they are the whole file.
fn with_md5(ask: &Ask) -> Reply {
    let reply = Page::tagged(FIRST).answer(ask);
    let whole = reply.file_bytes().len() as u64 == FIRST.size;
    if whole { reply.with("Content-MD5", BASE64.encode(md5())) } else { reply }
}

/// Changes the byte in the middle.
fn spoil(reply: Reply) -> Reply {
    let mut bytes = reply.file_bytes();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte = !*byte;
    }
    reply.body(vec![Step::File(bytes)])
}
