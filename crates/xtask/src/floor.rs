//! `xtask floor`: the cheapest server imaginable, the floor that benchmarks compare with. PUT receives a mebibyte
//! and writes it; GET hands the file, or one range of it, to the kernel. It knows no account, no digest, no sync and no second name for
//! anything, and listens on this machine alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::UNIX_EPOCH;

/// How much is received before it is written.
const BLOCK: usize = 1 << 20;

/// A request, as far as the floor understands it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    method: String,
    /// The last segment of the path: the name of a file in the one folder.
    name: String,
    length: u64,
    expects: bool,
    /// The first and the last byte that are asked for.
    range: Option<(u64, u64)>,
    /// The only version of which a range is wanted.
    only_of: Option<String>,
}

impl Request {
    /// Returns which bytes of a file of this version and length are to be sent instead of all of them. What it does
    /// not understand, or cannot satisfy, it ignores, as RFC 9110 §14.2 allows.
    fn piece(&self, tag: &str, length: u64) -> Option<Range<u64>> {
        let (first, last) = self.range.filter(|_| self.only_of.as_deref().is_none_or(|only| only == tag))?;
        (first <= last && first < length).then(|| first..last.saturating_add(1).min(length))
    }
}

/// Reads a single range with a beginning.
fn parse_range(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, if last.is_empty() { u64::MAX } else { last.parse().ok()? }))
}

/// Serves a folder until the process is ended; prints where it listens.
pub(crate) fn run(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, folder) = (stream?, folder.to_owned());
        // A connection that breaks is the client's business.
        thread::spawn(move || drop(converse(&stream, &folder)));
    }
    Ok(())
}

/// Answers the requests of one connection.
fn converse(stream: &TcpStream, folder: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(BLOCK, stream);
    let mut output = stream;
    while let Some(request) = read_request(&mut input)? {
        let path: PathBuf = folder.join(&request.name);
        match request.method.as_str() {
            "PUT" => {
                if request.expects {
                    output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                receive(&mut input, &path, request.length)?;
                output.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
            }
            "GET" => match File::open(&path) {
                Ok(file) => send(file, output, &request)?,
                Err(_) => output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
            },
            _ => output.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?,
        }
    }
    Ok(())
}

/// Writes a body to a file, a block at a time.
fn receive(input: &mut impl Read, path: &Path, length: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut block = vec![0; BLOCK];
    let mut rest = length;
    while rest > 0 {
        let wanted = usize::try_from(rest).map_or(BLOCK, |rest| rest.min(BLOCK));
        input.read_exact(&mut block[..wanted])?;
        file.write_all(&block[..wanted])?;
        rest -= wanted as u64;
    }
    Ok(())
}

/// Sends a file; on Linux the standard library has the kernel do it.
fn send(mut file: File, mut output: &TcpStream, request: &Request) -> io::Result<()> {
    let facts = file.metadata()?;
    let (length, modified) = (facts.len(), facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default());
    let tag = format!("\"{length:x}-{:x}\"", modified.as_nanos());
    let (status, range, piece) = match request.piece(&tag, length) {
        None => ("200 OK", String::new(), 0..length),
        Some(piece) => {
            let last = piece.end - 1;
            let range = format!("Content-Range: bytes {}-{last}/{length}\r\n", piece.start);
            ("206 Partial Content", range, piece)
        }
    };
    let size = piece.end - piece.start;
    output.write_all(
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{range}Accept-Ranges: bytes\r\nETag: {tag}\r\n\r\n"
        )
        .as_bytes(),
    )?;
    file.seek(SeekFrom::Start(piece.start))?;
    io::copy(&mut file.take(size), &mut output)?;
    Ok(())
}

/// Reads the head of a request, or `None` at the end of the connection.
fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let name = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    if matches!(name, "" | "." | "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path names no file"));
    }
    let mut request = Request { method, name: name.to_owned(), ..Request::default() };
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            return Ok(Some(request));
        }
        let (field, value) = line.split_once(':').unwrap_or_default();
        if field.eq_ignore_ascii_case("content-length") {
            request.length = value.trim().parse().unwrap_or_default();
        }
        if field.eq_ignore_ascii_case("range") {
            request.range = parse_range(value);
        }
        if field.eq_ignore_ascii_case("if-range") {
            request.only_of = Some(value.trim().to_owned());
        }
        request.expects |= field.eq_ignore_ascii_case("expect");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        #[track_caller]
        fn check(head: &str, expected: Option<(&str, &str, u64, bool)>) {
            let expected = expected.map(|(method, name, length, expects)| Request {
                method: method.to_owned(),
                name: name.to_owned(),
                length,
                expects,
                ..Request::default()
            });
            assert_eq!(read_request(&mut head.as_bytes()).unwrap(), expected);
        }
        check("", None);
        check("GET /files/a HTTP/1.1\r\nHost: x\r\n\r\n", Some(("GET", "a", 0, false)));
        check(
            "PUT /a HTTP/1.1\r\ncontent-length: 12\r\nExpect: 100-continue\r\n\r\nbody",
            Some(("PUT", "a", 12, true)),
        );
        assert!(read_request(&mut "GET / HTTP/1.1\r\n\r\n".as_bytes()).is_err());
        assert!(read_request(&mut "GET /a/.. HTTP/1.1\r\n\r\n".as_bytes()).is_err());
    }

    #[test]
    fn what_was_put_is_got() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, _) = listener.accept().unwrap();
        let path = folder.path().to_owned();
        let serving = thread::spawn(move || converse(&served, &path));
        client.write_all(b"PUT /f HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        client
            .write_all(
                b"GET /f HTTP/1.1\r\n\r\nGET /f HTTP/1.1\r\nRange: bytes=1-2\r\n\r\nGET /g HTTP/1.1\r\n\r\n",
            )
            .unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        serving.join().unwrap().unwrap();
        let tag = answer.split_once("ETag: ").unwrap().1.split_once('\r').unwrap().0;
        assert_eq!(
            answer.replace(tag, "T"),
            "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\nAccept-Ranges: bytes\r\nETag: T\r\n\r\nhello\
             HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\nContent-Range: bytes 1-2/5\r\n\
             Accept-Ranges: bytes\r\nETag: T\r\n\r\nel\
             HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_range_is_one_with_a_beginning() {
        #[track_caller]
        fn check(fields: &str, expected: Option<(u64, u64)>) {
            let head = format!("GET /f HTTP/1.1\r\n{fields}\r\n\r\n");
            let request = read_request(&mut head.as_bytes()).unwrap().unwrap();
            let piece = request.piece("\"a\"", 10).map(|piece| (piece.start, piece.end));
            assert_eq!(piece, expected, "{fields}");
        }
        check("Range: bytes=0-", Some((0, 10)));
        check("range: bytes=2-3", Some((2, 4)));
        check("Range: bytes=9-99", Some((9, 10)));
        check("Range: bytes=9-18446744073709551615", Some((9, 10)));
        check("Range: bytes=2-3\r\nIf-Range: \"a\"", Some((2, 4)));
        check("Range: bytes=2-3\r\nIf-Range: \"b\"", None);
        check("Range: bytes=10-", None);
        check("Range: bytes=3-2", None);
        check("Range: bytes=-2", None);
        check("Range: bytes=0-1,3-4", None);
        check("Host: x", None);
    }
}
