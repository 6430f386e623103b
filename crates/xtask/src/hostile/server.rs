//! The hostile server: it listens on 127.0.0.1, reads requests, and writes what the behaviours make. Owns sockets and
//! the list of visits; what is written is not its business.

use std::collections::HashMap;
use std::io::{self, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::ask::Ask;
use super::behaviour::{self, Behaviour, Special};
use super::reply::{End, Reply, Step};
use super::visit::{Form, Permit, Visit};

/// How many bytes of the file are written at once.
const PIECE: usize = 16 << 10;

/// How long the late port refuses connections.
const LATE: Duration = Duration::from_secs(1);

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A running server. Its threads end with the process.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    visits: Visits,
}

/// Visits by the part of the path that names them: `<behaviour>/<client>`.
type Visits = Arc<Mutex<HashMap<String, Arc<Visit>>>>;

impl Server {
    /// Starts the server.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let server = Self { address: listener.local_addr()?, visits: Visits::default() };
        let accepting = server.clone();
        thread::spawn(move || accepting.accept(&listener));
        Ok(server)
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Expects a client, and returns its visit and the address of the file.
    pub(crate) fn invite(
        &self,
        behaviour: &'static Behaviour,
        client: &str,
        form: Form,
        forbidden: String,
    ) -> (Arc<Visit>, String) {
        let key = format!("{}/{client}", behaviour.name);
        let url = format!("http://{}/{key}/file.bin", self.address);
        let visit = Arc::new(Visit::new(behaviour, form, forbidden));
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&visit));
        (visit, url)
    }

    /// Finds a visit by a path; who comes uninvited is served too.
    fn visit(&self, path: &str) -> Option<Arc<Visit>> {
        let mut parts = path.strip_prefix('/')?.splitn(3, '/');
        let (name, client) = (parts.next()?, parts.next()?);
        let behaviour = behaviour::find(name)?;
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Arc::new(Visit::new(behaviour, Form::Plain, "/nowhere".to_owned()));
        Some(Arc::clone(visits.entry(format!("{name}/{client}")).or_insert_with(begin)))
    }

    fn accept(&self, listener: &TcpListener) {
        // A connection that was gone before it was accepted is none.
        for stream in listener.incoming().flatten() {
            let server = self.clone();
            // What goes wrong on a connection is the client's to notice.
            thread::spawn(move || drop(server.talk(&stream)));
        }
    }

    /// Answers the requests of one connection.
    fn talk(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(stream);
        while let Some(ask) = Ask::read(&mut reader)? {
            let keeps_alive = ask.keeps_alive();
            let end = match self.visit(&ask.path) {
                Some(visit) => self.answer(&visit, ask, stream)?,
                None => write(stream, &ask, None, &list())?,
            };
            match end {
                End::Keep if keeps_alive => {}
                End::Keep | End::Close => break,
                End::Reset => {
                    sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn answer(&self, visit: &Visit, mut ask: Ask, stream: &TcpStream) -> io::Result<End> {
        ask.at = visit.enter();
        ask.forbidden.clone_from(&visit.forbidden);
        if visit.behaviour.special == Special::Late {
            ask.late_port = self.late_port(visit)?;
        }
        let reply = (visit.behaviour.answer)(&ask);
        let written = write(stream, &ask, Some(visit), &reply);
        visit.leave();
        written
    }

    /// Returns the port of a visit that is taken, but not listened on for a while.
    fn late_port(&self, visit: &Visit) -> io::Result<u16> {
        if let Some(port) = visit.late.get() {
            return Ok(*port);
        }
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = TcpListener::from(socket);
        let port = listener.local_addr()?.port();
        let server = self.clone();
        thread::spawn(move || {
            thread::sleep(LATE);
            // If it cannot listen, it goes on refusing, and the run says so.
            if rustix::net::listen(&listener, 128).is_ok() {
                server.accept(&listener);
            }
        });
        Ok(*visit.late.get_or_init(|| port))
    }
}

/// Writes an answer; the end may come earlier than the answer says.
fn write(mut stream: &TcpStream, ask: &Ask, visit: Option<&Visit>, reply: &Reply) -> io::Result<End> {
    let mut head = reply.before.clone();
    if !reply.first.is_empty() {
        head.extend(reply.first.as_bytes());
        head.extend(b"\r\n");
        for (name, value) in &reply.fields {
            head.extend(name.as_bytes());
            head.extend(b": ");
            head.extend(value);
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
    }
    stream.write_all(&head)?;
    let steps = if ask.method == "HEAD" { &[] } else { reply.body.as_slice() };
    for step in steps {
        match step {
            Step::Raw(bytes) => stream.write_all(bytes)?,
            Step::Pause(time) => thread::sleep(*time),
            Step::File(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let want = rest.len().min(PIECE);
                    let now = match visit.map_or(Permit::Bytes(want), |visit| visit.permit(want)) {
                        Permit::Bytes(now) => now,
                        Permit::Break => return Ok(End::Close),
                    };
                    stream.write_all(&rest[..now])?;
                    rest = &rest[now..];
                }
            }
        }
    }
    Ok(reply.end)
}

/// The page at every other path: what there is.
fn list() -> Reply {
    let lines =
        behaviour::all().into_iter().map(|known| format!("/{}/0/file.bin  {}\n", known.name, known.says));
    let heading =
        "Every path /<behaviour>/<any word>/<any name> lies in its own way; the word begins a new visit.\n\n";
    Reply::text("200 OK", "text/plain", &format!("{heading}{}", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::hostile::version::{FIRST, SIZE};

    /// Sends a request that closes, and returns everything that comes until the end.
    fn get(address: SocketAddr, path: &str, fields: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn start() -> Server {
        Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
    }

    #[test]
    fn an_honest_path_is_honest_and_counted() {
        let server = start();
        let behaviour = behaviour::find("honest").unwrap();
        let (visit, url) = server.invite(behaviour, "test", Form::Plain, String::new());
        assert_eq!(url, format!("http://{}/honest/test/file.bin", server.address()));
        let bytes = get(server.address(), "/honest/test/file.bin", "");
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && bytes.ends_with(&FIRST.whole()));
        let part = get(server.address(), "/honest/test/file.bin", "Range: bytes=7-9\r\n");
        assert!(part.ends_with(&FIRST.bytes(7, 10)));
        assert_eq!(visit.requests(), 2);
    }

    #[test]
    fn a_visit_breaks_half_way_and_another_is_not_disturbed() {
        let server = start();
        let half = usize::try_from(SIZE / 2).unwrap();
        let one = get(server.address(), "/cut-once/1/file.bin", "");
        assert!(one.ends_with(&FIRST.whole()[..half]));
        assert!(get(server.address(), "/cut-once/1/file.bin", "").ends_with(&FIRST.whole()));
        assert!(get(server.address(), "/cut-once/2/file.bin", "").ends_with(&FIRST.whole()[..half]));
    }

    #[test]
    fn other_paths_list_the_behaviours() {
        let page = String::from_utf8(get(start().address(), "/", "")).unwrap();
        assert!(page.contains("/honest/0/file.bin"), "{page}");
    }
}
