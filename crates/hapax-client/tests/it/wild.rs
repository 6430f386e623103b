//! A server in the same process that knows no protocol: it reads the head of a request and writes whatever the script
//! says, byte by byte if need be. Each connection carries one request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    /// How many requests were being answered when it came, itself included.
    pub(crate) busy: usize,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        Some(&value.1)
    }

    /// Returns the first byte asked for, and the end if one was.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = last.parse::<usize>().ok().map(|last| last + 1);
        Some((first.parse().unwrap(), end))
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What happens to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It ends as it should.
    End,
    /// The connection breaks after so many bytes of it.
    Cut(usize),
    /// Nothing comes any more after so many bytes of it.
    Stall(usize),
    /// It comes at a steady, moderate pace.
    Pace,
    /// After so many bytes of it, one byte comes now and then.
    Trickle(usize),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) version: &'static str,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) then: Then,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            version: "HTTP/1.1",
            status,
            fields: Vec::new(),
            body: body.into(),
            framing: Framing::Length,
            then: Then::End,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.retain(|(found, _)| found != name);
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(found, _)| found != name);
        self
    }

    pub(crate) fn framed(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

/// Answers as a good server does: ranges, and conditions by a strong tag.
pub(crate) fn good(asked: &Asked, content: &[u8], etag: &str) -> Reply {
    let same = asked.field("if-range").is_none_or(|condition| condition == etag);
    let size = content.len();
    let reply = match asked.range().filter(|_| same) {
        Some((start, _)) if start >= size => {
            Reply::new(416, []).with("content-range", format!("bytes */{size}"))
        }
        Some((start, end)) => {
            let end = end.unwrap_or(size).min(size);
            let range = format!("bytes {start}-{}/{size}", end - 1);
            Reply::new(206, &content[start..end]).with("content-range", range)
        }
        None => Reply::new(200, content),
    };
    reply.with("etag", etag).with("content-type", "application/octet-stream").with("accept-ranges", "bytes")
}

type Script = Box<dyn FnMut(usize, &Asked) -> Reply + Send>;

pub(crate) struct Wild {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
    /// Told when a body comes to where it stalls.
    pub(crate) stalled: Arc<Notify>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wild {
    /// Starts a server that answers by a script: the number of the request, from 1 on, and the request.
    pub(crate) async fn start(script: impl FnMut(usize, &Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wild = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(script))),
            stalled: Arc::default(),
        };
        let (asked, script, stalled) =
            (Arc::clone(&wild.asked), Arc::clone(&wild.script), Arc::clone(&wild.stalled));
        tokio::spawn(async move {
            let busy = Arc::new(());
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, script) = (Arc::clone(&asked), Arc::clone(&script));
                let (stalled, busy) = (Arc::clone(&stalled), Arc::clone(&busy));
                // A client may leave at any moment; that is no failure of the server.
                tokio::spawn(async move { serve(stream, &asked, &script, (&stalled, &busy)).await });
            }
        });
        wild
    }

    /// Answers by another script from now on.
    pub(crate) fn script(&self, script: impl FnMut(usize, &Asked) -> Reply + Send + 'static) {
        locked(&self.asked).clear();
        *locked(&self.script) = Box::new(script);
    }

    /// Returns the requests since the script was set.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        locked(&self.asked).clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    script: &Mutex<Script>,
    (stalled, busy): (&Notify, &Arc<()>),
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let mut request = lines.next()?.split(' ');
    let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let asked_now = Asked {
        method: request.next()?.to_owned(),
        target: request.next()?.to_owned(),
        fields: lines.filter_map(field).collect(),
        busy: Arc::strong_count(busy) - 1,
    };
    let number = {
        let mut asked = locked(asked);
        asked.push(asked_now.clone());
        asked.len()
    };
    let reply = locked(script)(number, &asked_now);
    write(&mut stream, &reply, stalled).await
}

async fn write(stream: &mut TcpStream, reply: &Reply, stalled: &Notify) -> Option<()> {
    let mut head = format!("{} {} Whatever\r\nconnection: close\r\n", reply.version, reply.status);
    for (name, value) in &reply.fields {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let body = match reply.framing {
        Framing::Length => {
            head.extend(["content-length: ", &reply.body.len().to_string(), "\r\n"]);
            reply.body.clone()
        }
        Framing::Chunked => {
            head += "transfer-encoding: chunked\r\n";
            let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
            let chunks: Vec<_> = reply.body.chunks(10_000).map(chunk).collect();
            [chunks.concat(), b"0\r\n\r\n".to_vec()].concat()
        }
        Framing::Close => reply.body.clone(),
    };
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    let until = match reply.then {
        Then::End => body.len(),
        Then::Pace => 0,
        Then::Cut(at) | Then::Stall(at) | Then::Trickle(at) => at.min(body.len()),
    };
    stream.write_all(&body[..until]).await.ok()?;
    match reply.then {
        Then::End | Then::Cut(_) => stream.shutdown().await.ok()?,
        Then::Stall(_) => {
            stalled.notify_one();
            // The other side ends it.
            stream.read_u8().await.ok()?;
        }
        Then::Pace => {
            for piece in body.chunks(20_000) {
                stream.write_all(piece).await.ok()?;
                // What makes one connection slow.
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        }
        Then::Trickle(_) => {
            for byte in &body[until..] {
                stream.write_all(&[*byte]).await.ok()?;
                // What makes it a trickle; nobody waits for it but the deadline that is tested.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Some(())
}
