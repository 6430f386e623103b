//! Behaviours: names that nobody should believe. Owns its list. The content is honest; whoever obeys writes it
//! to another place, or under a name that does harm.

use super::Behaviour;
use crate::hostile::ask::Ask;
use crate::hostile::reply::{Page, Reply};
use crate::hostile::version::FIRST;

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    named("name-parent", "names the file ../../evil.bin", |ask| answer(ask, "filename=\"../../evil.bin\"")),
    named("name-backslash", "names the file ..\\..\\evil.bin", |ask| {
        answer(ask, "filename=\"..\\\\..\\\\evil.bin\"")
    }),
    named("name-coded", "names the file ../../evil.bin in percent signs", |ask| {
        answer(ask, "filename*=UTF-8''..%2F..%2Fevil.bin")
    }),
    named("name-absolute", "names the file by an absolute path", |ask| {
        answer(ask, &format!("filename=\"{}/evil.bin\"", ask.forbidden))
    }),
    named("name-control", "names the file with an escape sequence of terminals", |ask| {
        answer(ask, "filename*=UTF-8''evil%1B%5B2J%0A.bin")
    }),
    named("name-nul", "names the file with a NUL", |ask| answer(ask, "filename*=UTF-8''evil%00.bin")),
    named("name-device", "names the file NUL.txt, a device of Windows", |ask| {
        answer(ask, "filename=\"NUL.txt\"")
    }),
    named("name-bidi", "names the file so that it reads evilexe.jpg and is an exe", |ask| {
        answer(ask, "filename*=UTF-8''evil%E2%80%AEgpj.exe")
    }),
    named("name-hidden", "names the file .bashrc", |ask| answer(ask, "filename=\".bashrc\"")),
    named("name-dots", "names the file `..`", |ask| answer(ask, "filename=\"..\"")),
    named("name-endless", "names the file with 5,000 letters", |ask| {
        answer(ask, &format!("filename=\"{}.bin\"", "n".repeat(5_000)))
    }),
    named("name-not-text", "names the file in bytes that are no UTF-8", |ask| {
        let reply = Page::tagged(FIRST).answer(ask);
        reply.and("Content-Disposition", b"attachment; filename=\"evil\xff\xfe.bin\"".to_vec())
    }),
];

const fn named(name: &'static str, says: &'static str, answer: fn(&Ask) -> Reply) -> Behaviour {
    Behaviour::new(name, says, answer).names()
}

fn answer(ask: &Ask, parameters: &str) -> Reply {
    Page::tagged(FIRST).answer(ask).with("Content-Disposition", format!("attachment; {parameters}"))
}
