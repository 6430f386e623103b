//! A client that speaks bytes: it sends exactly what a test says and reads HTTP/1.1 answers.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Output, Stdio};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    /// What was read and not yet understood.
    ahead: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Checks the status, and shows the body if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
        assert_eq!(self.status.as_u16(), status, "{body}");
        self
    }

    /// Checks status and problem.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, problem: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.field("hapax-problem"), problem);
        answer
    }

    /// Reads the body as one of the shapes of the API.
    #[track_caller]
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns a field as text; absent is empty.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), ahead: Vec::new() }
    }

    /// Sends bytes; fails when the connection does.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request without a body and reads its answer.
    pub(crate) async fn ask(&mut self, method: &str, target: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.answer_to(method).await
    }

    /// Reads an answer to a method that has bodies in its answers.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// Reads an answer.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        self.rest_of(head, method).await
    }

    /// Reads the body behind the head of an answer.
    pub(crate) async fn rest_of(&mut self, head: Answer, method: &str) -> Answer {
        let Answer { status, fields, .. } = head;
        let has_body =
            method != "HEAD" && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
        let length = match fields.get("content-length") {
            Some(length) if has_body => length.to_str().unwrap().parse().unwrap(),
            _ => 0,
        };
        Answer { status, fields, body: self.some(length).await }
    }

    /// Reads so many bytes of a body.
    pub(crate) async fn some(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.read_more().await > 0, "the connection ended within a body");
        }
        self.ahead.drain(..length).collect()
    }

    /// Reads the head of an answer; its body is still to come.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read_more().await > 0, "the connection ended within a head: {:?}", self.ahead);
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields: HeaderMap = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        Answer { status, fields, body: Vec::new() }
    }

    /// Ends the connection as a process does that was killed with bytes unread, or a router that forgot it.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Ends the sending side.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn read_more(&mut self) -> usize {
        self.stream.read_buf(&mut self.ahead).await.unwrap()
    }

    /// Reads until the server ends the connection, and returns what came.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        self.ahead
    }
}

/// Somebody who sends requests, each over a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) authorization: Option<String>,
}

impl Client {
    /// Returns the head of a request, without the blank line behind it.
    pub(crate) fn head(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(authorization) = &self.authorization {
            write!(head, "Authorization: {authorization}\r\n").unwrap();
        }
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head
    }

    /// Sends a request with a body and reads the answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut wire = Wire::connect(self.address).await;
        let length = body.as_ref().len();
        wire.send(format!("{}Content-Length: {length}\r\n\r\n", self.head(method, target, fields))).await;
        wire.send(body).await;
        wire.answer_to(method).await
    }

    /// Sends a request without a body and reads the answer.
    pub(crate) async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut wire = Wire::connect(self.address).await;
        wire.send(self.head(method, target, fields) + "\r\n").await;
        wire.answer_to(method).await
    }

    /// Reads a target.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[]).await
    }

    /// Sends JSON.
    pub(crate) async fn json(&self, method: &str, target: &str, body: &serde_json::Value) -> Answer {
        self.send(method, target, &[("Content-Type", "application/json")], body.to_string()).await
    }
}

/// Runs curl without its configuration file.
pub(crate) async fn curl(arguments: &[&str]) -> Output {
    tokio::process::Command::new("curl")
        .args(["-q", "--silent", "--show-error", "--noproxy", "*"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}
