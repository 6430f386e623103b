//! Ranges and conditions on the wire: parts of one answer, connections that go on, old and new versions of HTTP.

use std::ops::Range;

use crate::files::noise;
use crate::server::{PASSWORD, Running};
use crate::wire::{Answer, Client, Wire, curl};

/// A file of three parts of storage.
const SIZE: usize = (33 << 20) + 77;

/// Reads the parts of a body back: where each says that it lies, and its bytes.
#[track_caller]
fn parts<'a>(content_type: &str, mut body: &'a [u8], size: usize) -> Vec<(Range<usize>, &'a [u8])> {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    loop {
        body = body.strip_prefix(delimiter.as_bytes()).unwrap();
        if body == b"--\r\n" {
            return parts;
        }
        let end = body.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&body[..end]).unwrap();
        assert!(head.contains("\r\nContent-Type: video/webm\r\n"), "{head}");
        let range = head.split("\r\nContent-Range: bytes ").nth(1).unwrap().trim_end();
        let (range, total) = range.split_once('/').unwrap();
        assert_eq!(total, size.to_string());
        let (first, last) = range.split_once('-').unwrap();
        let range = first.parse().unwrap()..last.parse::<usize>().unwrap() + 1;
        let (bytes, rest) = body[end..].split_at(range.len());
        parts.push((range, bytes));
        body = rest.strip_prefix(b"\r\n").unwrap();
    }
}

async fn put(client: &Client, target: &str, bytes: &[u8]) -> String {
    client.send("PUT", target, &[], bytes).await.expect(201).field("etag").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_are_the_parts_of_one_answer() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(SIZE);
    let etag = put(&alice, "/files/a.webm", &bytes).await;
    let check = async |range: &str, expected: &[Range<usize>]| {
        let answer = alice.ask("GET", "/files/a.webm", &[("Range", range)]).await.expect(206);
        assert_eq!(answer.field("content-range"), "");
        assert_eq!((answer.field("etag"), answer.field("accept-ranges")), (etag.as_str(), "bytes"));
        assert!(answer.field("content-disposition").contains("a.webm"));
        let found = parts(answer.field("content-type"), &answer.body, SIZE);
        let expected: Vec<_> = expected.iter().map(|range| (range.clone(), &bytes[range.clone()])).collect();
        assert!(found == expected, "{range}");
        answer.field("content-type").to_owned()
    };
    let one = check("bytes=0-0,-1", &[0..1, SIZE - 1..SIZE]).await;
    let other = check("bytes=0-0,-1", &[0..1, SIZE - 1..SIZE]).await;
    assert_ne!(one, other, "a boundary is drawn for each answer");
    check("bytes=-10, 5-9", &[SIZE - 10..SIZE, 5..10]).await;
    check("bytes=100-199,0-9,150-299", &[100..300, 0..10]).await;
    check("bytes=0-0,40000000-,500-500", &[0..1, 500..501]).await;
    // Across the borders of segments and of parts, and more than is in memory at once.
    let border = 16 << 20;
    check("bytes=16777200-16777300,65000-66000", &[border - 16..border + 85, 65_000..66_001]).await;
    check("bytes=0-9999999,20000000-33999999", &[0..10_000_000, 20_000_000..34_000_000]).await;
    let spread: Vec<_> = (0..32).map(|n| n * 1_000_000..n * 1_000_000 + 70_000).collect();
    let text = |spans: &[Range<usize>]| {
        let spans = spans.iter().map(|span| format!("{}-{}", span.start, span.end - 1));
        format!("bytes={}", spans.collect::<Vec<_>>().join(","))
    };
    check(&text(&spread), &spread).await;
    let far: Vec<_> = (0..33).map(|n| n * 1_000_000..n * 1_000_000 + 1).collect();
    let whole = alice.ask("GET", "/files/a.webm", &[("Range", &text(&far))]).await.expect(200);
    assert!(whole.body == bytes);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_small_file() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(1_000);
    let etag = put(&alice, "/files/a.webm", &bytes).await;
    let fields = [("Range", "bytes=0-9,500-"), ("If-Range", etag.as_str())];
    let answer = alice.ask("GET", "/files/a.webm", &fields).await.expect(206);
    let found = parts(answer.field("content-type"), &answer.body, 1_000);
    assert_eq!(found, [(0..10, &bytes[..10]), (500..1_000, &bytes[500..])]);
    assert_eq!(answer.field("content-disposition"), "");
    let joined = alice.ask("GET", "/files/a.webm", &[("Range", "bytes=0-9,50-")]).await.expect(206);
    assert_eq!(
        (joined.field("content-range"), joined.field("content-type")),
        ("bytes 0-999/1000", "video/webm")
    );
    let other = [("Range", "bytes=0-9,500-"), ("If-Range", "\"other\"")];
    assert!(alice.ask("GET", "/files/a.webm", &other).await.expect(200).body == bytes);
    let head = alice.ask("HEAD", "/files/a.webm", &[("Range", "bytes=0-9,500-")]).await.expect(200);
    assert_eq!((head.field("content-length"), head.field("content-type")), ("1000", "video/webm"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_after_every_answer_to_a_range() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(100_000);
    let etag = put(&alice, "/files/a.webm", &bytes).await;
    let mut wire = server.connect().await;
    let mut ask = async |method: &str, fields: &[(&str, &str)]| -> Answer {
        wire.send(alice.head(method, "/files/a.webm", fields) + "\r\n").await;
        wire.answer_to(method).await
    };
    for _ in 0..2 {
        let part = ask("GET", &[("Range", "bytes=5-9")]).await.expect(206);
        assert_eq!((part.field("connection"), part.body.as_slice()), ("", &bytes[5..10]));
        ask("GET", &[("If-None-Match", &etag)]).await.expect(304);
        let several = ask("GET", &[("Range", "bytes=0-0,-1")]).await.expect(206);
        assert_eq!(parts(several.field("content-type"), &several.body, 100_000).len(), 2);
        ask("GET", &[("If-Match", "\"other\"")]).await.refused(412, "precondition-failed");
        ask("HEAD", &[("If-Match", "\"other\"")]).await.refused(412, "precondition-failed");
        ask("GET", &[("Range", "bytes=100000-")]).await.refused(416, "range");
        ask("HEAD", &[("Range", "bytes=100000-")]).await.expect(200);
        assert!(ask("GET", &[]).await.expect(200).body == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_the_same_bytes_and_then_the_end() {
    let server = Running::start().await;
    let alice = server.alice();
    let bytes = noise(300_000);
    put(&alice, "/files/a.webm", &bytes).await;
    for (fields, status, expected) in [
        (&[][..], 200, &bytes[..]),
        (&[("Range", "bytes=5-")], 206, &bytes[5..]),
        (&[("Range", "bytes=-1")], 206, &bytes[299_999..]),
    ] {
        let mut wire: Wire = server.connect().await;
        let head = alice.head("GET", "/files/a.webm", fields).replace("HTTP/1.1", "HTTP/1.0");
        wire.send(head + "\r\n").await;
        let answer = wire.answer().await.expect(status);
        assert!(answer.body == expected, "{fields:?}");
        assert_eq!(answer.field("transfer-encoding"), "");
        assert_eq!(wire.rest().await, b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_ranges_with_every_version_of_http() {
    let server = Running::start().await;
    let bytes = noise(3 << 20);
    put(&server.alice(), "/files/a.webm", &bytes).await;
    let (url, user) = (server.url("/files/a.webm"), format!("alice:{PASSWORD}"));
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let ask = async |arguments: &[&str]| {
            let common = [version, "-u", &user, "-D", "/dev/stderr", &url];
            let output = curl(&[arguments, &common].concat()).await;
            assert!(output.status.success(), "{version} {arguments:?}: {output:?}");
            (String::from_utf8(output.stderr).unwrap().to_lowercase(), output.stdout)
        };
        let (head, body) = ask(&["-r", "1000-1999"]).await;
        assert!(head.contains(" 206") && head.contains("content-range: bytes 1000-1999/3145728"), "{head}");
        assert!(body == bytes[1_000..2_000], "{version}");
        let (head, body) = ask(&["-r", "0-0,1000000-2999999,-1"]).await;
        let content_type = head.split("content-type: ").nth(1).unwrap().lines().next().unwrap();
        let end = bytes.len();
        let expected = [0..1, 1_000_000..3_000_000, end - 1..end].map(|range| (range.clone(), &bytes[range]));
        assert!(parts(content_type, &body, end) == expected, "{version}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let (head, _) = ask(&["-r", "3145728-"]).await;
        assert!(head.contains(" 416") && head.contains("content-range: bytes */3145728"), "{head}");
        let (head, body) = ask(&["-H", "Range: bytes=5-4"]).await;
        assert!(head.contains(" 200") && body == bytes, "{version}");
    }
}

/// Every content has a tag of its own; a date is told only of a content that no other can share it with.
#[tokio::test(flavor = "multi_thread")]
async fn contents_of_one_second_are_never_mixed_by_their_date() {
    let server = Running::start().await;
    let alice = server.alice();
    let mut told: Vec<(String, String)> = Vec::new();
    for version in 0..30 {
        let body = format!("version {version}");
        alice.send("PUT", "/files/a", &[], &body).await;
        let head = alice.ask("HEAD", "/files/a", &[]).await.expect(200);
        for (date, tag) in &told {
            let by_date = [("Range", "bytes=0-3"), ("If-Range", date.as_str())];
            let answer = alice.ask("GET", "/files/a", &by_date).await.expect(200);
            assert_eq!(String::from_utf8_lossy(&answer.body), body);
            alice.ask("GET", "/files/a", &[("If-Modified-Since", date)]).await.expect(200);
            alice.ask("GET", "/files/a", &[("If-Match", tag)]).await.refused(412, "precondition-failed");
        }
        // Any date of today that a client could have made up for itself.
        let own = [("Range", "bytes=0-3"), ("If-Range", head.field("date"))];
        alice.ask("GET", "/files/a", &own).await.expect(200);
        let date = head.field("last-modified").to_owned();
        if !date.is_empty() {
            told.push((date, head.field("etag").to_owned()));
        }
    }
}
