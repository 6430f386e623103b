//! A client of HTTP/2 whose bodies a test sends piece by piece, with trailers, or resets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::wire::{Answer, Client};

/// A connection.
pub(crate) struct H2(SendRequest<Frames>);

/// A request whose body a test sends.
pub(crate) struct Sending {
    frames: mpsc::Sender<io::Result<Frame<Bytes>>>,
    answer: JoinHandle<hyper::Result<Answer>>,
}

/// What a test sends.
struct Frames(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

impl H2 {
    /// Connects by prior knowledge.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Begins a request.
    pub(crate) fn begin(
        &mut self,
        client: &Client,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Sending {
        let (frames, body) = mpsc::channel(4);
        let mut request = Request::builder().method(method).uri(format!("http://{}{target}", client.address));
        if let Some(authorization) = &client.authorization {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = self.0.send_request(request.body(Frames(body)).unwrap());
        let answer = tokio::spawn(async move {
            let (head, body) = answer.await?.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            Ok(Answer { status: head.status, fields: head.headers, body })
        });
        Sending { frames, answer }
    }
}

impl Sending {
    /// Sends bytes; an answer that came early is no reason to fail.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(50_000) {
            let _answered_early = self.frames.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).await;
        }
    }

    /// Ends the body, with trailers if there are any, and returns the answer.
    pub(crate) async fn finish(self, trailers: HeaderMap) -> Answer {
        if !trailers.is_empty() {
            let _answered_early = self.frames.send(Ok(Frame::trailers(trailers))).await;
        }
        drop(self.frames);
        self.answer.await.unwrap().unwrap()
    }

    /// Waits for an answer that comes before the end of the body.
    pub(crate) async fn answer(self) -> Answer {
        let answer = self.answer.await.unwrap().unwrap();
        drop(self.frames);
        answer
    }

    /// Ends a body that is not as long as it was to be, and waits until the stream is broken or answered.
    pub(crate) async fn end_broken(self) {
        drop(self.frames);
        if let Ok(answer) = self.answer.await.unwrap() {
            assert!(!answer.status.is_success(), "{answer:?}");
        }
    }

    /// Ends the body, and waits until the stream is broken under the answer.
    pub(crate) async fn end_without_answer(self) {
        drop(self.frames);
        assert!(self.answer.await.unwrap().is_err(), "the answer has an end");
    }

    /// Resets the stream.
    pub(crate) async fn reset(self) {
        let _answered_early = self.frames.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
        assert!(self.answer.await.unwrap().is_err(), "nothing answers a stream that was reset");
    }
}
