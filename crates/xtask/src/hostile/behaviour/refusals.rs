//! Behaviours: statuses, redirects and pages that are not the file. Owns its list.

use std::time::{Duration, SystemTime};

use super::{Behaviour, Honest};
use crate::hostile::ask::Ask;
use crate::hostile::reply::{Page, Reply};
use crate::hostile::version::FIRST;

/// The behaviours of this theme.
pub(super) const LIST: &[Behaviour] = &[
    Behaviour::new("busy-seconds", "answers 429 with Retry-After: 1, twice", |ask| {
        at_first(ask, 2, Reply::empty("429 Too Many Requests").with("Retry-After", 1))
    }),
    Behaviour::new("busy-date", "answers 503 with a Retry-After that is a date, once", |ask| {
        let then = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1));
        at_first(ask, 1, Reply::empty("503 Service Unavailable").with("Retry-After", then))
    }),
    Behaviour::new(
        "busy-midway",
        "answers 503 with Retry-After: 1 when a download is resumed, twice",
        |ask| midway(ask, 2, Reply::empty("503 Service Unavailable").with("Retry-After", 1)),
    )
    .breaks(),
    Behaviour::new("broken-at-first", "answers 500 three times", |ask| {
        at_first(ask, 3, Reply::text("500 Internal Server Error", "text/plain", "oops\n"))
    }),
    Behaviour::new("gone-midway", "answers 404 behind the break, for ever", |ask| {
        midway(ask, u32::MAX, Reply::text("404 Not Found", "text/html", "<h1>gone</h1>\n"))
    })
    .breaks()
    .honest(Honest::Nothing(&[3])),
    Behaviour::new("forbidden-midway", "answers 403 behind the break, for ever", |ask| {
        midway(ask, u32::MAX, Reply::text("403 Forbidden", "text/html", "<h1>no</h1>\n"))
    })
    .breaks()
    .honest(Honest::Nothing(&[4])),
    Behaviour::new("unauthenticated", "answers 401", |_| {
        Reply::empty("401 Unauthorized").with("WWW-Authenticate", "Basic realm=\"hostile\"")
    })
    .honest(Honest::Nothing(&[4])),
    Behaviour::new("no-content", "answers 204", |_| Reply::empty("204 No Content").without("Content-Length"))
        .honest(Honest::Nothing(&[1, 5, 7])),
    Behaviour::new("not-modified", "answers 304 to a request without a condition", |_| {
        Reply::empty("304 Not Modified").without("Content-Length").with("ETag", FIRST.tag())
    })
    .honest(Honest::Nothing(&[1, 5, 7])),
    Behaviour::new("portal-midway", "answers 200 with a login page behind the break, once", |ask| {
        let page = "<html><title>Welcome to our WiFi</title>Please log in.</html>\n".repeat(200);
        midway(ask, 1, Reply::text("200 OK", "text/html", &page))
    })
    .breaks(),
    Behaviour::new("portal-redirect", "redirects to a login page behind the break, once", |ask| {
        if ask.query == "portal" {
            return Reply::text("200 OK", "text/html", "<html>Please log in.</html>\n");
        }
        midway(ask, 1, Reply::redirect("302 Found", &format!("{}?portal", ask.path)))
    })
    .breaks(),
    Behaviour::new("redirect", "redirects, permanently", |ask| {
        if ask.query.is_empty() {
            return Reply::redirect("308 Permanent Redirect", &format!("{}?there", ask.path));
        }
        Page::tagged(FIRST).answer(ask)
    })
    .breaks(),
    Behaviour::new(
        "redirect-expires",
        "redirects to a target that answers 403 behind the break; a new one works",
        |ask| {
            let ticket = if ask.at.broken { "ticket=2" } else { "ticket=1" };
            match ask.query.as_str() {
                "" => Reply::redirect("302 Found", &format!("{}?{ticket}", ask.path)),
                query if query == ticket => Page::tagged(FIRST).answer(ask),
                _ => Reply::text("403 Forbidden", "text/plain", "this link has expired\n"),
            }
        },
    )
    .breaks(),
    Behaviour::new("redirect-loop", "redirects to itself", |ask| Reply::redirect("302 Found", &ask.path))
        .honest(Honest::Nothing(&[1, 5, 7]))
        .requests(64),
    Behaviour::new("redirect-to-file", "redirects to a file of the client's own disk", |_| {
        Reply::redirect("302 Found", "file:///etc/hostname")
    })
    .honest(Honest::Nothing(&[1, 4, 5, 7])),
];

/// Answers this to the first requests.
fn at_first(ask: &Ask, requests: u32, reply: Reply) -> Reply {
    if ask.at.number <= requests { reply } else { Page::tagged(FIRST).answer(ask) }
}

/// Answers this to the first requests behind the break.
fn midway(ask: &Ask, requests: u32, reply: Reply) -> Reply {
    if ask.at.broken && ask.at.since_break <= requests { reply } else { Page::tagged(FIRST).answer(ask) }
}
