//! Answers before the body was read: the client must see them whole, whatever it is busy sending.

use std::fs::File;
use std::process::Output;

use http::StatusCode;

use crate::server::Running;
use crate::wire::curl;

const PUT: &str = "PUT /files/a HTTP/1.1\r\nHost: test\r\nContent-Length: 104857600\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_100_goes_out_before_the_decision() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Expect: 100-continue\r\n\r\n")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.field("connection"), "close");
    assert_eq!(answer.field("hapax-problem"), "unauthenticated");
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_sending_can_still_read_the_answer() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}\r\n")).await;
    // More than the sockets hold together with what has to be read already, less than what a lingering close
    // discards: without it, one of these writes or the read behind them fails.
    for _ in 0..15 {
        wire.send(vec![0; 64 << 10]).await;
    }
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (StatusCode::UNAUTHORIZED, "close"));
    assert!(!answer.body.is_empty());
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pipelined_behind_an_unread_body_is_not_answered() {
    let server = Running::start().await;
    for length in [5, 100_000] {
        let mut wire = server.connect().await;
        let body = "x".repeat(length);
        wire.send(format!(
            "PUT /files/a HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}\
             GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer().await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(wire.rest().await, b"", "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_after_a_body_that_is_empty() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    wire.send("PUT /files/a HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (StatusCode::UNAUTHORIZED, ""));
    assert_eq!(wire.ask("GET", "/healthz").await.status, StatusCode::OK);
}

/// Uploads 64 MiB of nothing with curl, which prints the status it saw.
async fn upload_with_curl(server: &Running, arguments: &[&str]) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    File::set_len(file.as_file(), 64 << 20).unwrap();
    let url = server.url("/files/big");
    let path = file.path().to_str().unwrap();
    let common = ["-o", "/dev/null", "-w", "%{http_code}", "-T", path, url.as_str()];
    curl(&[arguments, &common].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reports_the_answer_and_no_broken_connection() {
    let server = Running::start().await;
    for arguments in [
        &[][..],
        &["-H", "Expect:"],
        &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"],
        &["--http2-prior-knowledge"],
        &["--http2-prior-knowledge", "-H", "Expect:"],
    ] {
        let output = upload_with_curl(&server, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "401", "{arguments:?}: {said}");
        assert!(output.status.success(), "{arguments:?}: {:?} {said}", output.status);
    }
}
