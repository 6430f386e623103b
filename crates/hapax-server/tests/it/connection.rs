//! What the connection itself promises: deadlines, limits of the header, both protocols, and an orderly end.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::StatusCode;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::files::noise;
use crate::server::Running;
use crate::wire::curl;

/// What a server waits for a header by default.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let server = Running::start().await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: te"] {
        let begun = Instant::now();
        let mut wire = server.connect().await;
        wire.send(sent).await;
        let said = wire.rest().await;
        assert!(!said.starts_with(b"HTTP/1.1 2"), "{sent:?}");
        assert!(begun.elapsed() >= HEADER_DEADLINE, "{sent:?} ended after {:?}", begun.elapsed());
        assert!(begun.elapsed() < 3 * HEADER_DEADLINE, "{sent:?} ended after {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_too_large_is_refused() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    wire.send(format!("GET /healthz HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(63 << 10))).await;
    assert_eq!(wire.answer().await.status, StatusCode::OK);
    let mut wire = server.connect().await;
    wire.send(format!("GET /healthz HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(64 << 10))).await;
    assert_eq!(wire.answer().await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_answers_one_request_after_the_other() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    for _ in 0..3 {
        let answer = wire.ask("GET", "/healthz").await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, b"ok\n".as_slice()));
    }
    wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.body, b"ok\n");
    assert_eq!(wire.answer().await.body, b"ready\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_spoken() {
    let server = Running::start().await;
    for (argument, version) in [("--http1.0", "1"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let output = curl(&[argument, "-w", "%{http_version} %{http_code}", &server.url("/healthz")]).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("ok\n{version} 200"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_idle_connections_and_takes_no_new_ones() {
    let server = Running::start().await;
    // Connections are accepted in their order, so when the second is answered the first is accepted as well.
    let silent = server.connect().await;
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("GET", "/healthz").await.status, StatusCode::OK);
    let address = server.address;
    let rest = tokio::spawn(wire.rest());
    server.end().await;
    assert_eq!(rest.await.unwrap(), b"");
    assert_eq!(silent.rest().await, b"");
    assert!(TcpStream::connect(address).await.is_err());
}

/// A download over HTTP/2 of which nothing is taken but what fits into the window.
struct Untaken {
    body: RecvStream,
    _connection: SendRequest<Bytes>,
}

impl Untaken {
    async fn begin(server: &Running, target: &str, window: u32) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (mut sender, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://{}{target}", server.address));
        let authorization = server.alice().authorization.unwrap();
        let request = request.header("Authorization", authorization).body(()).unwrap();
        let answer = sender.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        if window > 0 {
            assert_eq!(body.data().await.unwrap().unwrap().len(), window as usize);
        }
        Self { body, _connection: sender }
    }

    /// Begins four, of a small and of a large file; of the small one with a window, which comes last, some went out.
    async fn four(server: &Running) -> Vec<Self> {
        let mut four = Vec::new();
        let (small, large) = ("/files/small", "/files/large");
        for (target, size) in [(small, 10), (large, 1 << 20)] {
            server.alice().send("PUT", target, &[], noise(size)).await.expect(201);
        }
        for (target, window) in [(large, 0), (large, 1), (small, 0), (small, 1)] {
            four.push(Self::begin(server, target, window).await);
        }
        four
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nobody_takes_over_h2_is_a_request_under_way() {
    let server = Running::start_with(|config| config.caps.requests_per_account = 4).await;
    let four = Untaken::four(&server).await;
    server.alice().get("/files/small").await.refused(429, "too-many");
    drop(four);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nobody_takes_over_h2_ends() {
    let server = Running::start_with(|config| {
        config.deadlines.idle_body = Duration::from_secs(1);
        config.caps.requests_per_account = 4;
    })
    .await;
    let mut four = Untaken::four(&server).await;
    for untaken in &mut four[..3] {
        let ended = untaken.body.data().await.unwrap().unwrap_err();
        assert!(ended.is_reset(), "{ended:?}");
    }
    server.alice().get("/files/small").await.expect(200);
}
