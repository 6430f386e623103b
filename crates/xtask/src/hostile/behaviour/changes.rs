//! Behaviours: files that change, and validators that tell it or not. Owns its list.
//!
//! The change comes with the break: what was sent before it is of the first version, what is sent behind it of
//! another one.

use super::{Behaviour, Honest};
use crate::hostile::ask::Ask;
use crate::hostile::reply::{Page, Reply};
use crate::hostile::version::{FIRST, LONGER, SECOND, SIZE, Version, now};

const GROWN: [Version; 4] = [
    FIRST,
    Version { seed: 1, size: SIZE + 1_000 },
    Version { seed: 1, size: SIZE + 2_000 },
    Version { seed: 1, size: SIZE + 3_000 },
];
const BOTH: &[Version] = &[FIRST, SECOND];
const SEVERAL: [Version; 4] = [FIRST, SECOND, LONGER, Version { seed: 6, size: SIZE }];

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new("changed", "has another version, with a new ETag", |ask| {
        Page::tagged(present(ask)).answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new("changed-size", "has a longer version, with a new ETag", changed_size)
        .versions(&[FIRST, LONGER])
        .breaks(),
    Behaviour::new("changed-no-if-range", "has another version, and ignores If-Range", |ask| {
        Page::tagged(present(ask)).no_if_range().answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new("changed-no-if-match", "has another version, and ignores If-Match", |ask| {
        Page::tagged(present(ask)).no_if_match().answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new("changed-no-conditions", "has another version, and ignores all conditions", |ask| {
        Page::tagged(present(ask)).no_if_range().no_if_match().answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new(
        "changed-silently",
        "has another version, ignores conditions, and a 206 has no ETag",
        |ask| untagged_206(Page::tagged(present(ask)).no_if_range().no_if_match().answer(ask)),
    )
    .versions(BOTH)
    .breaks(),
    Behaviour::new("tag-on-200-only", "has no ETag on a 206", |ask| {
        untagged_206(Page::tagged(FIRST).answer(ask))
    })
    .breaks(),
    Behaviour::new("weak-tag", "has a weak ETag only", |ask| {
        Page::tagged(FIRST).tag("W/\"same\"").answer(ask)
    })
    .breaks(),
    Behaviour::new(
        "changed-weak-tag",
        "has another version with the same weak ETag, and ignores conditions",
        |ask| Page::tagged(present(ask)).tag("W/\"same\"").no_if_range().no_if_match().answer(ask),
    )
    .versions(BOTH)
    .breaks(),
    Behaviour::new("strong-date", "has a Last-Modified of years ago only", |ask| {
        Page::dated(FIRST, FIRST.date()).answer(ask)
    })
    .breaks(),
    Behaviour::new("changed-strong-date", "has another version with another Last-Modified", |ask| {
        Page::dated(present(ask), present(ask).date()).answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new(
        "changed-date-no-conditions",
        "has another Last-Modified, and ignores all conditions",
        |ask| Page::dated(present(ask), present(ask).date()).no_if_range().no_if_match().answer(ask),
    )
    .versions(BOTH)
    .breaks(),
    Behaviour::new(
        "changed-weak-date",
        "has another version of the same second, just now",
        changed_weak_date,
    )
    .versions(BOTH)
    .breaks(),
    Behaviour::new("changed-no-validator", "has another version of the same size and no validator", |ask| {
        Page::bare(present(ask)).answer(ask)
    })
    .versions(BOTH)
    .breaks(),
    Behaviour::new("growing", "grows with each of the first requests, without a validator", growing)
        .versions(&GROWN)
        .breaks(),
    Behaviour::new(
        "changing",
        "has another version in each of the first four answers, each cut off",
        changing,
    )
    .versions(&SEVERAL),
    Behaviour::new("never-settles", "has another version in every answer, each cut off", never_settles)
        .versions(&[])
        .honest(Honest::Nothing(&[5, 8])),
    Behaviour::new("tag-per-answer", "has another ETag in every answer for the same bytes", tag_per_answer)
        .breaks(),
    Behaviour::new("always-412", "answers 412 to every condition", always_412).breaks(),
    Behaviour::new("mirrors", "sends each request to another mirror, and the mirrors differ", mirrors)
        .versions(BOTH)
        .breaks(),
    Behaviour::new(
        "mirrors-no-validator",
        "sends each request to another mirror, without validators",
        |ask| mirrored(ask, &Page::bare(mirror(ask))),
    )
    .versions(BOTH)
    .breaks(),
    Behaviour::new(
        "lying-tag-known-digest",
        "has another version under the same ETag; the digest is known",
        |ask| Page::tagged(present(ask)).tag("\"same\"").answer(ask),
    )
    .versions(&[FIRST])
    .breaks()
    .digest()
    .honest(Honest::Nothing(&[7])),
    Behaviour::new("lying-tag", "has another version of the same size under the same strong ETag", |ask| {
        Page::tagged(present(ask)).tag("\"same\"").answer(ask)
    })
    .versions(BOTH)
    .breaks()
    .honest(Honest::Unknowable),
];

/// The first version before the break, the second behind it.
fn present(ask: &Ask) -> Version {
    if ask.at.broken { SECOND } else { FIRST }
}

fn changed_size(ask: &Ask) -> Reply {
    Page::tagged(if ask.at.broken { LONGER } else { FIRST }).answer(ask)
}

fn untagged_206(reply: Reply) -> Reply {
    if reply.is(206) { reply.without("ETag") } else { reply }
}

/// The date is as young as the answer: a second version of the same second could have it too (RFC 9110 §8.8.2.2).
fn changed_weak_date(ask: &Ask) -> Reply {
    let date = now();
    let claimed = ask.field("if-range").or(ask.field("if-unmodified-since")).unwrap_or(&date).to_owned();
    let reply = Page::dated(present(ask), claimed.clone()).answer(ask);
    reply.with("Date", claimed)
}

fn growing(ask: &Ask) -> Reply {
    let at = usize::try_from(ask.at.number - 1).expect("requests are few").min(GROWN.len() - 1);
    Page::bare(GROWN[at]).answer(ask)
}

fn changing(ask: &Ask) -> Reply {
    let at = usize::try_from(ask.at.number - 1).expect("requests are few");
    match SEVERAL.get(at) {
        Some(version) if at + 1 < SEVERAL.len() => Page::tagged(*version).answer(ask).cut(100_000),
        _ => Page::tagged(SEVERAL[SEVERAL.len() - 1]).answer(ask),
    }
}

fn never_settles(ask: &Ask) -> Reply {
    Page::tagged(Version { seed: 100 + u64::from(ask.at.number), size: SIZE }).answer(ask).cut(100_000)
}

fn tag_per_answer(ask: &Ask) -> Reply {
    Page::tagged(FIRST).tag(&format!("\"answer-{}\"", ask.at.number)).answer(ask)
}

fn always_412(ask: &Ask) -> Reply {
    let asks = ["if-match", "if-unmodified-since", "if-range"].iter().any(|name| ask.field(name).is_some());
    if asks { Reply::empty("412 Precondition Failed") } else { Page::tagged(FIRST).answer(ask) }
}

/// The mirror that a redirect led to.
fn mirror(ask: &Ask) -> Version {
    if ask.query == "mirror=2" { SECOND } else { FIRST }
}

fn mirrored(ask: &Ask, page: &Page) -> Reply {
    if ask.query.is_empty() {
        // Before the break one mirror, behind it the other.
        let mirror = if ask.at.broken { 2 } else { 1 };
        return Reply::redirect("302 Found", &format!("{}?mirror={mirror}", ask.path));
    }
    page.answer(ask)
}

fn mirrors(ask: &Ask) -> Reply {
    mirrored(ask, &Page::tagged(mirror(ask)))
}
