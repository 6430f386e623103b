//! Answers as values: what will be written to the line, byte for byte, true or not. Owns their making, and the
//! honest answers that the behaviours begin with.

use std::fmt::Display;
use std::time::Duration;

use super::ask::{Ask, Asked};
use super::version::{Version, now};

/// What comes behind the fields.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes of the file; the visit counts them, and may break off in their midst.
    File(Vec<u8>),
    /// Anything else.
    Raw(Vec<u8>),
    /// Nothing, for so long.
    Pause(Duration),
}

/// What happens to the connection behind the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It waits for the next request, if the client wants that.
    Keep,
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// What comes before the status line.
    pub(crate) before: Vec<u8>,
    /// The status line.
    pub(crate) first: String,
    /// The fields; values need not be text.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub(crate) body: Vec<Step>,
    /// The end.
    pub(crate) end: End,
}

impl Reply {
    /// Makes an answer without a body.
    pub(crate) fn empty(status: &str) -> Self {
        let reply = Self {
            before: Vec::new(),
            first: format!("HTTP/1.1 {status}"),
            fields: Vec::new(),
            body: Vec::new(),
            end: End::Keep,
        };
        reply.with("Date", now()).with("Content-Length", "0")
    }

    /// Makes an answer with a body that is not the file.
    pub(crate) fn text(status: &str, media_type: &str, text: &str) -> Self {
        let reply = Self::empty(status).with("Content-Type", media_type).with("Content-Length", text.len());
        Self { body: vec![Step::Raw(text.as_bytes().to_vec())], ..reply }
    }

    /// Makes a redirect.
    pub(crate) fn redirect(status: &str, to: &str) -> Self {
        Self::empty(status).with("Location", to)
    }

    /// Sets a field, instead of one that has the name.
    pub(crate) fn with(self, name: &str, value: impl Display) -> Self {
        self.without(name).and(name, format!("{value}"))
    }

    /// Adds a field to those that have the name.
    pub(crate) fn and(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Takes a field away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Returns the value of a field that is text.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Tells whether the answer has this status.
    pub(crate) fn is(&self, status: u16) -> bool {
        self.first.split(' ').nth(1) == Some(&status.to_string())
    }

    /// Ends the connection in another way.
    pub(crate) fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// Has another body.
    pub(crate) fn body(self, body: Vec<Step>) -> Self {
        Self { body, ..self }
    }

    /// Returns the bytes of the file that the body has.
    pub(crate) fn file_bytes(&self) -> Vec<u8> {
        let file = |step: &Step| match step {
            Step::File(bytes) => bytes.clone(),
            Step::Raw(_) | Step::Pause(_) => Vec::new(),
        };
        self.body.iter().flat_map(file).collect()
    }

    /// Cuts the body behind `size` bytes, without a change of what was announced, and closes.
    pub(crate) fn cut(self, size: usize) -> Self {
        let mut bytes = self.file_bytes();
        bytes.truncate(size);
        self.body(vec![Step::File(bytes)]).end(End::Close)
    }

    /// Sends the body in chunks, without saying how long it is.
    pub(crate) fn chunked(self) -> Self {
        let mut body = Vec::new();
        for chunk in self.file_bytes().chunks(50_000) {
            body.push(Step::Raw(format!("{:x}\r\n", chunk.len()).into_bytes()));
            body.push(Step::File(chunk.to_vec()));
            body.push(Step::Raw(b"\r\n".to_vec()));
        }
        body.push(Step::Raw(b"0\r\n\r\n".to_vec()));
        self.without("Content-Length").with("Transfer-Encoding", "chunked").body(body)
    }

    /// Answers as a server of HTTP/1.0 does that does not know the length.
    pub(crate) fn old(mut self) -> Self {
        self.first = self.first.replace("HTTP/1.1", "HTTP/1.0");
        self.without("Content-Length").without("Accept-Ranges").end(End::Close)
    }
}

/// What a server has and honours: the material of honest answers.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// The present version.
    pub(crate) version: Version,
    /// Its entity tag.
    pub(crate) tag: Option<String>,
    /// Its modification date.
    pub(crate) date: Option<String>,
    /// Whether `If-Range` is looked at.
    pub(crate) if_range: bool,
    /// Whether `If-Match` and `If-Unmodified-Since` are.
    pub(crate) if_match: bool,
}

impl Page {
    /// Has a version, with a tag and without a date.
    pub(crate) fn tagged(version: Version) -> Self {
        Self { version, tag: Some(version.tag()), date: None, if_range: true, if_match: true }
    }

    /// Has a version, with a date and without a tag.
    pub(crate) fn dated(version: Version, date: String) -> Self {
        Self { version, tag: None, date: Some(date), if_range: true, if_match: true }
    }

    /// Has a version and says nothing about which one it is.
    pub(crate) fn bare(version: Version) -> Self {
        Self { version, tag: None, date: None, if_range: true, if_match: true }
    }

    /// Has this tag, true or not.
    pub(crate) fn tag(self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), ..self }
    }

    /// Ignores `If-Range`.
    pub(crate) fn no_if_range(self) -> Self {
        Self { if_range: false, ..self }
    }

    /// Ignores `If-Match` and `If-Unmodified-Since`.
    pub(crate) fn no_if_match(self) -> Self {
        Self { if_match: false, ..self }
    }

    /// Answers honestly: 200, 206, 412 or 416, as RFC 9110 has it.
    pub(crate) fn answer(&self, ask: &Ask) -> Reply {
        let size = self.version.size;
        if self.if_match && !self.matches_condition(ask) {
            return self.describe(Reply::empty("412 Precondition Failed"));
        }
        let range = if self.if_range && !self.matches_if_range(ask) { None } else { ask.range() };
        let (first, end) = match range {
            None => return self.whole(),
            Some(Asked::From(first, last)) => {
                (first, last.map_or(size, |last| last.saturating_add(1).min(size)))
            }
            Some(Asked::Last(count)) => (size.saturating_sub(count), size),
        };
        if first >= end {
            let reply = Reply::empty("416 Range Not Satisfiable");
            return self.describe(reply).with("Content-Range", format!("bytes */{size}"));
        }
        self.part(first, end)
    }

    /// Answers with the whole, whatever was asked.
    pub(crate) fn whole(&self) -> Reply {
        let reply = self.describe(Reply::empty("200 OK")).with("Content-Length", self.version.size);
        reply.body(vec![Step::File(self.version.whole())])
    }

    /// Answers with a part, whatever was asked.
    pub(crate) fn part(&self, first: u64, end: u64) -> Reply {
        self.describe(Reply::empty("206 Partial Content"))
            .with("Content-Range", format!("bytes {first}-{}/{}", end - 1, self.version.size))
            .with("Content-Length", end - first)
            .body(vec![Step::File(self.version.bytes(first, end))])
    }

    fn describe(&self, reply: Reply) -> Reply {
        let mut reply = reply.with("Content-Type", "application/octet-stream").with("Accept-Ranges", "bytes");
        if let Some(tag) = &self.tag {
            reply = reply.with("ETag", tag);
        }
        if let Some(date) = &self.date {
            reply = reply.with("Last-Modified", date);
        }
        reply
    }

    fn matches_condition(&self, ask: &Ask) -> bool {
        match (ask.field("if-match"), ask.field("if-unmodified-since")) {
            (Some(tags), _) => tags == "*" || tags.split(',').any(|tag| self.is_tag(tag.trim())),
            (None, Some(date)) => self.date.as_deref().is_none_or(|known| known == date),
            (None, None) => true,
        }
    }

    fn matches_if_range(&self, ask: &Ask) -> bool {
        ask.field("if-range").is_none_or(|value| self.is_tag(value) || self.date.as_deref() == Some(value))
    }

    /// Compares strongly: a weak tag equals none.
    fn is_tag(&self, tag: &str) -> bool {
        !tag.starts_with("W/") && self.tag.as_deref() == Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::version::{FIRST, SECOND, SIZE};

    fn ask(fields: &str) -> Ask {
        Ask::read(&mut format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap().unwrap()
    }

    /// Answers honestly for the first version; `range` is `Content-Range`.
    #[track_caller]
    fn check(fields: &str, status: u16, range: Option<&str>, size: u64) {
        let page = Page { date: Some(FIRST.date()), ..Page::tagged(FIRST) };
        let reply = page.answer(&ask(fields));
        assert!(reply.is(status), "{}", reply.first);
        assert_eq!((reply.field("content-range"), reply.file_bytes().len() as u64), (range, size));
    }

    #[test]
    fn honest_answers_are_honest() {
        let end = SIZE - 1;
        check("", 200, None, SIZE);
        check("Range: bytes=0-\r\n", 206, Some(&format!("bytes 0-{end}/{SIZE}")), SIZE);
        check("Range: bytes=10-19\r\n", 206, Some(&format!("bytes 10-19/{SIZE}")), 10);
        check("Range: bytes=-10\r\n", 206, Some(&format!("bytes {}-{end}/{SIZE}", SIZE - 10)), 10);
        check(&format!("Range: bytes={SIZE}-\r\n"), 416, Some(&format!("bytes */{SIZE}")), 0);
        let tag = FIRST.tag();
        check(
            &format!("Range: bytes=5-5\r\nIf-Range: {tag}\r\n"),
            206,
            Some(&format!("bytes 5-5/{SIZE}")),
            1,
        );
        check(&format!("Range: bytes=5-5\r\nIf-Range: W/{tag}\r\n"), 200, None, SIZE);
        check(&format!("Range: bytes=5-5\r\nIf-Range: {}\r\n", SECOND.tag()), 200, None, SIZE);
        check(&format!("If-Match: {}\r\n", SECOND.tag()), 412, None, 0);
        check(&format!("If-Match: {}, {tag}\r\n", SECOND.tag()), 200, None, SIZE);
        check(&format!("If-Unmodified-Since: {}\r\n", SECOND.date()), 412, None, 0);
        check(&format!("If-Unmodified-Since: {}\r\n", FIRST.date()), 200, None, SIZE);
    }

    #[test]
    fn a_part_has_the_bytes_it_names() {
        let reply = Page::bare(FIRST).answer(&ask("Range: bytes=1000-1999\r\n"));
        assert!(reply.file_bytes() == FIRST.whole()[1_000..2_000]);
    }
}
