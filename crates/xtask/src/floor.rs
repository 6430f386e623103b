//! `xtask floor`: the cheapest server imaginable, the floor that benchmarks compare with. PUT receives a mebibyte
//! and writes it; GET hands the file to the kernel. It knows no account, no digest, no sync and no second name for
//! anything, and listens on this machine alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

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
                Ok(file) => send(file, output)?,
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
fn send(mut file: File, mut output: &TcpStream) -> io::Result<()> {
    let length = file.metadata()?.len();
    output.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    io::copy(&mut file, &mut output)?;
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
        client.write_all(b"GET /f HTTP/1.1\r\n\r\nGET /g HTTP/1.1\r\n\r\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        serving.join().unwrap().unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
             HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
