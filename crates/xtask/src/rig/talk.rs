//! A plain conversation over one connection of HTTP/1.1, word for word: for whoever has to say half a request, or to know
//! when the first byte of one was said. Owns the framing; what is said is for the caller.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;

use super::server::Account;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// One connection.
#[derive(Debug)]
pub(crate) struct Talk {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    /// Whom every request is from.
    authorization: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Returns a field.
    pub(crate) fn field(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        Ok(&found.with_context(|| format!("{name} is missing in the answer {}", self.status))?.1)
    }

    /// Makes sure of the status.
    pub(crate) fn expect(self, status: u16) -> anyhow::Result<Self> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(self.status == status, "{} instead of {status}: {body}", self.status);
        Ok(self)
    }
}

/// Returns the credentials of an account.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}").as_bytes()))
}

/// Returns the credentials of a new token of an account: a password is slow to check on purpose, and clients that go on have
/// a token.
pub(crate) fn token(server: SocketAddr, account: Account) -> anyhow::Result<String> {
    let wanted = br#"{"name":"bench","scope":["read","write"]}"#;
    let told = Talk::open(server, account)?.ask("POST", "/api/v1/tokens", &[], wanted)?.expect(201)?;
    let told: serde_json::Value = serde_json::from_slice(&told.body)?;
    Ok(format!("Bearer {}", told["token"].as_str().context("a token is told")?))
}

impl Talk {
    /// Connects as an account.
    pub(crate) fn open(server: SocketAddr, account: Account) -> anyhow::Result<Self> {
        Self::open_as(server, basic(account.name, account.password))
    }

    /// Connects with these credentials.
    pub(crate) fn open_as(server: SocketAddr, authorization: String) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let input = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, input, authorization })
    }

    /// Says the head of a request.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: {}\r\n", self.authorization);
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n")?;
        }
        head.push_str("\r\n");
        self.say(head.as_bytes())
    }

    /// Says some bytes.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Hears an answer; `has_body` is whether one to this method has a body.
    pub(crate) fn hear(&mut self, has_body: bool) -> anyhow::Result<Reply> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no answer, but {line:?}"))?;
        let mut fields = Vec::new();
        loop {
            line.clear();
            ensure!(self.input.read_line(&mut line)? > 0, "the head of an answer was cut");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, fields, body: Vec::new() };
        let length = reply.field("content-length").ok().and_then(|length| length.parse().ok()).unwrap_or(0);
        if has_body && !matches!(status, 100 | 204) {
            reply.body.resize(length, 0);
            self.input.read_exact(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// Sends a whole request and hears its answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Reply> {
        let length = body.len().to_string();
        self.begin(method, target, &[fields, &[("Content-Length", &length)]].concat())?;
        self.say(body)?;
        self.hear(method != "HEAD")
    }

    /// Ends the connection so that the peer is told of a reset, as a process is whose client was killed.
    pub(crate) fn reset(self) -> anyhow::Result<()> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        Ok(())
    }
}
