//! Requests, as far as the hostile server looks at them. Owns their reading; it is no parser to be proud of, because
//! who is tested here is the client.

use std::io::{self, BufRead};

/// The most bytes of a request that are read.
const HEAD_MAX: usize = 64 << 10;

/// The bytes that a `Range` asks for, as it is written: both ends belong to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// From the first to the last, or to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

/// When a request came in its visit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entrance {
    /// Which request it is, from 1 on.
    pub(crate) number: u32,
    /// Whether the first transfer was broken off already.
    pub(crate) broken: bool,
    /// Which request behind the break it is, from 1 on; 0 before it.
    pub(crate) since_break: u32,
    /// How many answers are under way, its own included.
    pub(crate) active: u32,
}

/// One request, with what is known about the visit it belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: String,
    /// The path without its query.
    pub(crate) path: String,
    /// What stands behind the question mark.
    pub(crate) query: String,
    /// 0 or 1: the digit behind `HTTP/1.`.
    pub(crate) minor: u8,
    fields: Vec<(String, String)>,
    /// When it came in its visit.
    pub(crate) at: Entrance,
    /// The port that refuses connections for a while.
    pub(crate) late_port: u16,
    /// The folder that no name may lead to.
    pub(crate) forbidden: String,
}

impl Ask {
    /// Reads a request, or nothing if the client has closed the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        let mut left = HEAD_MAX;
        loop {
            let mut line = Vec::new();
            let read = from.read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            left = left.checked_sub(read).ok_or_else(|| io::Error::other("a request without an end"))?;
            match String::from_utf8_lossy(&line).trim_end() {
                "" if lines.is_empty() => {}
                "" => return Ok(Self::parse(&lines)),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn parse(lines: &[String]) -> Option<Self> {
        let (first, fields) = lines.split_first()?;
        let mut words = first.split(' ');
        let (method, target, protocol) = (words.next()?, words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let field = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            minor: u8::from(protocol.ends_with('1')),
            fields: fields.iter().filter_map(field).collect(),
            ..Self::default()
        })
    }

    /// Returns the value of a field, named in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns what the `Range` asks for, if it is one range of bytes.
    pub(crate) fn range(&self) -> Option<Asked> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        match (first, last) {
            ("", last) => Some(Asked::Last(last.parse().ok()?)),
            (first, "") => Some(Asked::From(first.parse().ok()?, None)),
            (first, last) => Some(Asked::From(first.parse().ok()?, Some(last.parse().ok()?))),
        }
    }

    /// Tells whether the client asks for something behind the first byte: it goes on with what it has.
    pub(crate) fn resumes(&self) -> bool {
        matches!(self.range(), Some(Asked::From(1.., _) | Asked::Last(_)))
    }

    /// Tells whether the connection may be used again.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.minor == 1 && !self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Option<Ask> {
        Ask::read(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn requests_are_read() {
        let ask = ask("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nRANGE:  bytes=5-\r\n\r\n").unwrap();
        assert_eq!((ask.method.as_str(), ask.path.as_str(), ask.query.as_str()), ("GET", "/a/b", "c=d"));
        assert_eq!(ask.field("host"), Some("h"));
        assert!(ask.resumes() && ask.keeps_alive());
    }

    #[test]
    fn what_is_no_request_is_none() {
        assert!(ask("").is_none());
        assert!(ask("GET\r\n\r\n").is_none());
        assert!(ask("GET / HTTP/1.1\r\nHost: h\r\n").is_none());
    }

    #[test]
    fn one_range_is_understood() {
        #[track_caller]
        fn check(value: &str, expected: Option<Asked>, resumes: bool) {
            let ask = ask(&format!("GET / HTTP/1.0\r\nRange: {value}\r\n\r\n")).unwrap();
            assert_eq!((ask.range(), ask.resumes(), ask.keeps_alive()), (expected, resumes, false));
        }
        check("bytes=0-", Some(Asked::From(0, None)), false);
        check("bytes=0-9", Some(Asked::From(0, Some(9))), false);
        check("bytes=7-9", Some(Asked::From(7, Some(9))), true);
        check("bytes=-9", Some(Asked::Last(9)), true);
        check("bytes=1-2,4-5", None, false);
        check("lines=1-2", None, false);
    }
}
