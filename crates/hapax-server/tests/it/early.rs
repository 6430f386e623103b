//! Answers before the body was read: the client must see them whole, whatever it is busy sending.

use std::fs::File;
use std::process::Output;

use http::StatusCode;

use hapax_proto::digest::Algorithm;
use hapax_proto::span::Length;

use crate::files::{digest_field, noise};
use crate::server::{PASSWORD, Running};
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

/// An upload that is answered before its body is read.
struct Refused {
    status: &'static str,
    target: &'static str,
    user: String,
    fields: Vec<String>,
    bytes: usize,
}

impl Refused {
    /// What alice sends, 2 MiB of it.
    fn new(status: &'static str, target: &'static str, fields: &[&str]) -> Self {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Self { status, target, user: format!("alice:{PASSWORD}"), fields, bytes: 2 << 20 }
    }

    /// Sends it with curl, which prints the status it saw and how many bytes of the body it sent.
    async fn send(&self, server: &Running, arguments: &[&str]) -> (String, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), noise(self.bytes)).unwrap();
        let url = server.url(self.target);
        let mut all = vec!["-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "-u", &self.user];
        all.extend(self.fields.iter().flat_map(|field| ["-H", field]));
        all.extend(["-T", file.path().to_str().unwrap(), &url]);
        let output = curl(&[arguments, &all].concat()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}: {:?} {said}", self.status, output.status);
        let told = String::from_utf8(output.stdout).unwrap();
        let (status, sent) = told.split_once(' ').unwrap();
        (status.to_owned(), sent.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reports_every_early_answer_and_sends_nothing_where_it_waits() {
    let server = Running::start_with(|config| config.caps.size = Length::new(8 << 20)).await;
    let alice = server.alice();
    let known = noise(2 << 20);
    alice.send("PUT", "/files/known", &[], &known).await.expect(201);
    alice.send("PUT", "/files/folder/a", &[], "old").await.expect(201);
    let digest = format!("Repr-Digest: {}", digest_field(Algorithm::Blake3, &known));
    let named = "Content-Disposition: attachment; filename=a";
    let cases = [
        Refused { user: "alice:wrong password".to_owned(), ..Refused::new("401", "/files/a", &[]) },
        Refused::new("400", "/files/a", &["Content-Range: bytes 0-2097151/4194304"]),
        Refused::new("404", "/files/@bob/a", &[]),
        Refused::new("409", "/files/folder", &[]),
        Refused::new("412", "/files/folder/a", &["If-None-Match: *"]),
        Refused::new("412", "/files/folder/a", &["If-Match: \"other\""]),
        Refused { bytes: 9 << 20, ..Refused::new("413", "/files/a", &[]) },
        Refused::new("415", "/files/a", &["Content-Encoding: gzip"]),
        Refused::new("201", "/files/linked", &[&digest]),
        Refused::new("200", "/files/linked", &[&digest, "If-Match: \"other\""]),
    ];
    // Its own patience for the 100 would end after a second, which says nothing about the server.
    let waits = ["--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "60"];
    for refused in &cases {
        let told = refused.send(&server, &waits).await;
        assert_eq!(told, (refused.status.to_owned(), "0".to_owned()), "{}", refused.target);
    }
    let posted = Refused::new("409", "/files/folder/", &[named]);
    let told = posted.send(&server, &[&waits[..], &["-X", "POST"]].concat()).await;
    assert_eq!(told, ("409".to_owned(), "0".to_owned()));
    assert!(alice.get("/files/linked").await.expect(200).body == known);
    // Busy sending, or over HTTP/2, it sees the same answers.
    for arguments in [&["--http1.1", "-H", "Expect:"][..], &["--http2-prior-knowledge"]] {
        for refused in cases.iter().filter(|refused| refused.status != "201") {
            let (status, _) = refused.send(&server, arguments).await;
            assert_eq!(status, refused.status, "{arguments:?} {}", refused.target);
        }
        // Success is told when the body is there.
        alice.ask("DELETE", "/files/linked", &[]).await.expect(204);
        let told = Refused::new("201", "/files/linked", &[&digest]).send(&server, arguments).await;
        assert_eq!(told, ("201".to_owned(), known.len().to_string()));
    }
    assert_eq!(alice.get("/files/folder/a").await.expect(200).body, b"old");
    alice.get("/files/a").await.refused(404, "not-found");
    server.end().await;
}
