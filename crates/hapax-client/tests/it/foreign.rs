//! Downloads from servers that promise nothing: whatever they do, a file that is said to be there is one version,
//! whole; and what can be had is had.

/// The name of a fetched file.
mod named;

/// Misbehaviour at random.
mod random;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hapax_client::TransferError;
use hapax_client::foreign::{Fetch, Fetched, How, Manners, Proof, Target, Web, fetch_file, fetch_stream};
use hapax_client::progress::{Event, Progress, Silent};
use hapax_client::sink::Overwrite;
use hapax_client::wire::Deadlines;
use hapax_proto::digest::{Algorithm, Digest, Digests, Hasher};
use hapax_proto::pin::Refusal;
use hapax_proto::retry::Policy;
use hapax_proto::span::Length;
use tempfile::TempDir;

use crate::put::noise;
use crate::wild::{Asked, Framing, Reply, Then, Wild, good};

const SIZE: usize = 3_000_000;
const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MUCH_LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

/// A server, and a folder that survives from one call to the next.
struct Bench {
    wild: Wild,
    folder: TempDir,
}

impl Bench {
    async fn new(script: impl FnMut(usize, &Asked) -> Reply + Send + 'static) -> Self {
        Self { wild: Wild::start(script).await, folder: tempfile::tempdir().unwrap() }
    }

    fn web(&self, attempts_max: u32, stall: Duration) -> Web {
        Web::new(Manners {
            checkpoints: self.folder.path().join("state"),
            deadlines: Deadlines { idle: stall, ..Deadlines::default() },
            patience: Policy {
                base: Duration::ZERO,
                retry_after_max: Duration::ZERO,
                attempts_max,
                ..Policy::default()
            },
            beat: Duration::from_millis(10),
        })
        .unwrap()
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("got/a")
    }

    fn wish(&self) -> Fetch {
        Fetch {
            address: format!("http://{}/file", self.wild.address).parse().unwrap(),
            target: Target::File(self.target()),
            overwrite: Overwrite::Never,
            digests: Digests::default(),
            connections: 1,
        }
    }

    async fn fetch_with(&self, web: &Web, fetch: &Fetch) -> Result<Fetched, TransferError> {
        std::fs::create_dir_all(self.target().parent().unwrap()).unwrap();
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        fetch_file(web, fetch, &silent).await
    }

    /// Fetches as a new process.
    async fn fetch(&self) -> Result<Fetched, TransferError> {
        self.fetch_with(&self.web(6, Duration::from_mins(1)), &self.wish()).await
    }

    /// Fetches as the process behind one that was killed: what it had begun on a blocking thread may hold the lock
    /// for a moment.
    async fn fetch_again(&self) -> Result<Fetched, TransferError> {
        loop {
            match self.fetch().await {
                Err(TransferError::Locked { .. }) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    }

    /// Demands that exactly this is there, and nothing beside it.
    #[track_caller]
    fn assert_got(&self, content: &[u8]) {
        assert!(std::fs::read(self.target()).unwrap() == content, "another content is there");
        assert_eq!(self.names(), ["a"], "something is left beside it");
        assert_eq!(std::fs::read_dir(self.folder.path().join("state")).unwrap().count(), 0);
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.target().parent().unwrap()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Demands that a file is had from a server, in so many requests.
async fn had(
    content: &[u8],
    requests: usize,
    script: impl FnMut(usize, &Asked) -> Reply + Send + 'static,
) -> Fetched {
    let bench = Bench::new(script).await;
    let fetched = bench.fetch().await.unwrap();
    bench.assert_got(content);
    assert_eq!(bench.wild.asked().len(), requests, "{:#?}", bench.wild.asked());
    assert_eq!(fetched.size, Length::of(content));
    fetched
}

/// Demands that nothing is had from a server, in so many requests; returns why, and whether something was kept.
async fn not_had(
    requests: usize,
    script: impl FnMut(usize, &Asked) -> Reply + Send + 'static,
) -> (TransferError, bool) {
    let bench = Bench::new(script).await;
    let error = bench.fetch().await.unwrap_err();
    assert_eq!(bench.wild.asked().len(), requests, "{error:?}: {:#?}", bench.wild.asked());
    assert!(!bench.target().exists());
    (error, bench.names() == ["a.part"])
}

fn content(seed: u64) -> Vec<u8> {
    noise(SIZE, seed)
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().get(algorithm).unwrap()
}

fn repr_digest(bytes: &[u8]) -> String {
    let digests: Digests = [digest(Algorithm::Sha256, bytes)].into_iter().collect();
    digests.format_field().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_is_asked_once() {
    for size in [0, 1, 70_000, SIZE] {
        let bytes = noise(size, 1);
        let served = bytes.clone();
        let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"")).await;
        let fetched = bench.fetch().await.unwrap();
        bench.assert_got(&bytes);
        assert_eq!((fetched.how, fetched.proof), (How::Fetched, Proof::Length));
        let asked = bench.wild.asked();
        // An empty file has no range, so it is asked for once more.
        assert_eq!(asked.len(), if size == 0 { 2 } else { 1 });
        assert_eq!(asked[0].method, "GET");
        assert_eq!(asked[0].field("range"), Some("bytes=0-"));
        assert_eq!(asked[0].field("accept-encoding"), Some("identity"));
        assert_eq!(asked[0].field("want-repr-digest"), Some("sha-256=10"));
        assert_eq!(asked[0].field("if-range"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_costs_no_byte_twice_and_the_rest_is_pinned() {
    let (bytes, served) = (content(2), content(2));
    let bench = Bench::new(move |number, asked| {
        let reply = good(asked, &served, "\"v\"");
        if number < 4 { reply.then(Then::Cut(700_000)) } else { reply }
    })
    .await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let progress: Arc<dyn Progress> = Arc::new(sender);
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    let web = bench.web(6, Duration::from_mins(1));
    fetch_file(&web, &bench.wish(), &progress).await.unwrap();
    bench.assert_got(&bytes);
    let (mut moved, mut solid) = (0, 0);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Moved(length) => moved += length.get(),
            Event::Solid(length) => solid += length.get(),
            _ => {}
        }
    }
    assert_eq!((moved, solid), (SIZE as u64, SIZE as u64));
    for asked in &bench.wild.asked()[1..] {
        assert_eq!(asked.field("if-range"), Some("\"v\""));
        assert_eq!(asked.range().unwrap().1, Some(SIZE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_pins_only_if_it_is_strong() {
    #[track_caller]
    fn check(date: &'static str, pins: bool) -> impl Future {
        let caller = std::panic::Location::caller();
        async move {
            let (bytes, served) = (content(3), content(3));
            let bench = Bench::new(move |number, asked| {
                let reply = good(asked, &served, OLD).without("etag");
                let reply = reply.with("last-modified", OLD).with("date", date);
                if number == 1 { reply.then(Then::Cut(700_000)) } else { reply }
            })
            .await;
            bench.fetch().await.unwrap();
            bench.assert_got(&bytes);
            let asked = bench.wild.asked();
            assert_eq!(asked.len(), 2, "at {caller}");
            assert_eq!(asked[1].field("if-range"), pins.then_some(OLD), "at {caller}");
            assert_eq!(asked[1].range().unwrap().0 > 0, pins, "at {caller}");
        }
    }
    check(MUCH_LATER, true).await;
    check(OLD, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_fetch_goes_on() {
    let (bytes, served) = (content(4), content(4));
    let bench = Bench::new(move |number, asked| {
        let reply = good(asked, &served, "\"v\"");
        if number == 1 { reply.then(Then::Stall(1_000_000)) } else { reply }
    })
    .await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let progress: Arc<dyn Progress> = Arc::new(sender);
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    let (web, wish) = (bench.web(6, Duration::from_mins(1)), bench.wish());
    let solid = async {
        // At least one piece is on disk, and its record.
        while !matches!(events.recv().await, Some(Event::Solid(_))) {}
    };
    tokio::select! {
        _ = fetch_file(&web, &wish, &progress) => panic!("the line stalls"),
        () = solid => {}
    }
    assert_eq!(bench.names(), ["a.part"]);
    let fetched = bench.fetch_again().await.unwrap();
    let How::Resumed { kept } = fetched.how else { panic!("{fetched:?}") };
    assert!(kept.get() >= 256 * 1024, "{kept} bytes were kept");
    bench.assert_got(&bytes);
    assert_eq!(bench.wild.asked()[1].range(), Some((usize::try_from(kept.get()).unwrap(), Some(SIZE))));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_begun_anew() {
    // A 200 of the new version, a 206 of it from a server that knows no If-Range, a 412, and a 416: it is shorter.
    #[derive(Clone, Copy, Debug)]
    enum By {
        Whole,
        Part,
        Status,
        Unsatisfied,
    }
    for by in [By::Whole, By::Part, By::Status, By::Unsatisfied] {
        let new_size = if matches!(by, By::Unsatisfied) { 500_000 } else { SIZE };
        let (old, new) = (content(6), noise(new_size, 7));
        let served = new.clone();
        let fetched = had(&new, 3, move |number, asked| match (number, by) {
            (1, _) => good(asked, &old, "\"old\"").then(Then::Cut(1_000_000)),
            (2, By::Part) => {
                let blind = Asked {
                    fields: vec![("range".into(), asked.field("range").unwrap().into())],
                    ..asked.clone()
                };
                good(&blind, &served, "\"new\"")
            }
            (2, By::Status) => Reply::new(412, []),
            (2, By::Unsatisfied) => Reply::new(416, []).with("content-range", "bytes */500000"),
            _ => good(asked, &served, "\"new\""),
        })
        .await;
        assert_eq!(fetched.how, How::Changed, "{by:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_changed_between_two_runs_is_begun_anew() {
    let (old, new) = (content(8), content(9));
    let bench = Bench::new(move |number, asked| {
        let reply = good(asked, &old, "\"old\"");
        if number == 1 { reply.then(Then::Cut(1_000_000)) } else { Reply::new(404, []) }
    })
    .await;
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, TransferError::Unexpected { status, .. } if status == 404), "{error:?}");
    assert_eq!(bench.names(), ["a.part"], "what was had is kept");
    assert_eq!(bench.wild.asked().len(), 4, "and it was asked again only a few times");
    let served = new.clone();
    bench.wild.script(move |_, asked| good(asked, &served, "\"new\""));
    let fetched = bench.fetch().await.unwrap();
    assert_eq!(fetched.how, How::Changed);
    bench.assert_got(&new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_holds_still_fails() {
    // Two changes show when the rest is asked for, three more when another answer begins.
    let (error, kept) = not_had(8, |number, asked| {
        let reply = good(asked, &noise(SIZE, number as u64), &format!("\"{number}\""));
        reply.then(Then::Cut(1_000_000))
    })
    .await;
    assert!(matches!(error, TransferError::Unsettled { .. }), "{error:?}");
    assert!(!kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_validator_it_is_one_answer_or_another_one() {
    let weak: fn(Reply) -> Reply = |reply| reply.with("etag", "W/\"v\"");
    let none: fn(Reply) -> Reply = |reply| reply.without("etag");
    for pin in [weak, none] {
        let (bytes, served) = (content(10), content(10));
        let bench = Bench::new(move |number, asked| {
            let reply = pin(good(asked, &served, "\"v\""));
            if number < 3 { reply.then(Then::Cut(1_000_000)) } else { reply }
        })
        .await;
        let fetched = bench.fetch().await.unwrap();
        bench.assert_got(&bytes);
        assert_eq!((fetched.how, fetched.proof), (How::Fetched, Proof::Length));
        for asked in bench.wild.asked() {
            assert_eq!((asked.range(), asked.field("if-range")), (Some((0, None)), None));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_read_again_from_its_start() {
    for framing in [Framing::Length, Framing::Chunked] {
        let (bytes, served) = (content(11), content(11));
        let fetched = had(&bytes, 3, move |number, _| {
            let reply = Reply::new(200, served.clone()).with("etag", "\"v\"").framed(framing);
            if number < 3 { reply.then(Then::Cut(number * 1_000_000)) } else { reply }
        })
        .await;
        assert_eq!((fetched.how, fetched.proof), (How::Fetched, Proof::Length));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_parts_are_put_together() {
    let (bytes, served) = (content(12), content(12));
    had(&bytes, 30, move |_, asked| {
        let (start, _) = asked.range().unwrap();
        let short = format!("bytes={start}-{}", start + 99_999);
        let mut asked = asked.clone();
        asked.fields.iter_mut().find(|(name, _)| name == "range").unwrap().1 = short;
        good(&asked, &served, "\"v\"")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_brings_a_byte_at_a_time_is_not_asked_for_ever() {
    let bytes = content(13);
    let (error, kept) = not_had(256 + SIZE / (64 * 1024), move |_, asked| {
        let (start, _) = asked.range().unwrap();
        let range = format!("bytes {start}-{start}/{SIZE}");
        Reply::new(206, &bytes[start..=start]).with("content-range", range).with("etag", "\"v\"")
    })
    .await;
    assert!(matches!(error, TransferError::Exhausted { .. }), "{error:?}");
    assert!(kept);
}

/// What a server does to its answers to ranges; answers without a range are good.
type Spoil = fn(Reply) -> Reply;

#[tokio::test(flavor = "multi_thread")]
async fn useless_answers_to_ranges_lead_to_one_without() {
    let spoils: [(&str, Spoil); 9] = [
        ("no Content-Range", |reply| reply.without("content-range")),
        ("a start elsewhere", |reply| reply.with("content-range", format!("bytes 1-{}/{SIZE}", SIZE - 1))),
        ("no total", |reply| reply.with("content-range", format!("bytes 0-{}/*", SIZE - 1))),
        ("too small a total", |reply| reply.with("content-range", format!("bytes 0-{}/17", SIZE - 1))),
        ("an absurd total", |reply| reply.with("content-range", "bytes 0-99/99999999999999999999")),
        ("more bytes than announced", |reply| reply.with("content-range", format!("bytes 0-99/{SIZE}"))),
        ("gzip", |reply| reply.with("content-encoding", "gzip")),
        ("multipart", |reply| {
            reply.without("content-range").with("content-type", "multipart/byteranges; boundary=x")
        }),
        ("416", |_| Reply::new(416, [])),
    ];
    for (what, spoil) in spoils {
        let (bytes, served) = (content(14), content(14));
        let bench = Bench::new(move |_, asked| {
            let reply = good(asked, &served, "\"v\"");
            if asked.range().is_some() { spoil(reply) } else { reply }
        })
        .await;
        let fetched = bench.fetch().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        bench.assert_got(&bytes);
        assert_eq!((fetched.proof, bench.wild.asked().len()), (Proof::Length, 2), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn useless_answers_behind_the_first_lead_to_one_without_a_range() {
    let spoils: [(&str, Spoil); 7] = [
        ("no Content-Range", |reply| reply.without("content-range")),
        ("a start elsewhere", |reply| reply.with("content-range", format!("bytes 5-9/{SIZE}"))),
        ("no validator", |reply| reply.without("etag")),
        ("a weakened validator", |reply| reply.with("etag", "W/\"v\"")),
        ("gzip", |reply| reply.with("content-encoding", "gzip")),
        ("multipart", |reply| {
            reply.without("content-range").with("content-type", "multipart/byteranges; boundary=x")
        }),
        ("416", |_| Reply::new(416, []).with("content-range", format!("bytes */{SIZE}"))),
    ];
    for (what, spoil) in spoils {
        let (bytes, served) = (content(15), content(15));
        let bench = Bench::new(move |number, asked| match (number, asked.range()) {
            (1, _) => good(asked, &served, "\"v\"").then(Then::Cut(1_000_000)),
            (_, Some(_)) => spoil(good(asked, &served, "\"v\"")),
            (_, None) => good(asked, &served, "\"v\""),
        })
        .await;
        let fetched = bench.fetch().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        bench.assert_got(&bytes);
        assert_eq!((fetched.how, bench.wild.asked().len()), (How::Fetched, 5), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_longer_than_announced_is_not_relied_on() {
    let long: fn(Reply) -> Reply = |mut reply| {
        reply.body.extend_from_slice(&[7; 100]);
        reply.framed(Framing::Chunked)
    };
    // Ranges lie: the answer without one is taken.
    let (bytes, served) = (content(16), content(16));
    had(&bytes, 2, move |_, asked| {
        let reply = good(asked, &served, "\"v\"");
        if asked.range().is_some() { long(reply) } else { reply }
    })
    .await;
    // All of it lies: nothing is.
    let served = content(16);
    let (error, kept) = not_had(2, move |_, asked| long(good(asked, &served, "\"v\""))).await;
    let refusal = |refusal: &Refusal| matches!(refusal, Refusal::OtherLength { .. });
    assert!(matches!(&error, TransferError::Unusable { refusal: found, .. } if refusal(found)), "{error:?}");
    assert!(!kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_total_is_not_believed_twice() {
    // Bytes 0 to 2,999,999 of 4,000,000; there are no more.
    let (bytes, served) = (content(17), content(17));
    let fetched = had(&bytes, 5, move |_, asked| match asked.range() {
        Some((0, _)) => {
            let range = format!("bytes 0-{}/4000000", SIZE - 1);
            Reply::new(206, served.clone()).with("etag", "\"v\"").with("content-range", range)
        }
        Some(_) => Reply::new(416, []).with("content-range", format!("bytes */{SIZE}")),
        None => good(asked, &served, "\"v\""),
    })
    .await;
    assert_eq!(fetched.proof, Proof::Length);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_file_is_refused() {
    let (error, kept) =
        not_had(2, |_, asked| good(asked, b"coded", "\"v\"").with("content-encoding", "gzip")).await;
    assert!(matches!(error, TransferError::Unusable { refusal: Refusal::Coded, .. }), "{error:?}");
    assert!(!kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for() {
    for status in [429, 500, 502, 503, 504, 408] {
        for retry_after in [None, Some("1"), Some(MUCH_LATER)] {
            let (bytes, served) = (content(18), content(18));
            had(&bytes, 7, move |number, asked| match number {
                1 | 2 | 4 | 5 | 6 => {
                    let reply = Reply::new(status, "busy").with("date", OLD);
                    retry_after.map_or(reply.clone(), |after| reply.with("retry-after", after))
                }
                3 => good(asked, &served, "\"v\"").then(Then::Cut(1_000_000)),
                _ => good(asked, &served, "\"v\""),
            })
            .await;
        }
    }
    let (error, kept) = not_had(6, |_, _| Reply::new(503, "busy")).await;
    assert!(matches!(error, TransferError::Unexpected { status, .. } if status == 503), "{error:?}");
    assert!(!kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_not() {
    for status in [401, 403, 404, 410, 400, 204, 501] {
        let (error, kept) = not_had(1, move |_, _| Reply::new(status, [])).await;
        let known = match &error {
            TransferError::Unexpected { status: found, .. }
            | TransferError::Unusable { refusal: Refusal::Status(found), .. } => *found == status,
            _ => false,
        };
        assert!(known && !kept, "{status}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_for_a_moment_is_had() {
    for status in [403, 404] {
        let (bytes, served) = (content(19), content(19));
        had(&bytes, 4, move |number, asked| match number {
            1 => good(asked, &served, "\"v\"").then(Then::Cut(1_000_000)),
            2 | 3 => Reply::new(status, []),
            _ => good(asked, &served, "\"v\""),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_from_the_start_each_time() {
    // Each link works once, and is refused from then on.
    let (bytes, served) = (content(20), content(20));
    let mut links = 0;
    let bench = Bench::new(move |_, asked| {
        if asked.target == "/file" {
            links += 1;
            return Reply::new(302, []).with("location", format!("/signed/{links}"));
        }
        let reply = good(asked, &served, "\"v\"");
        if asked.target != format!("/signed/{links}") {
            Reply::new(403, [])
        } else if links < 3 {
            reply.then(Then::Cut(900_000))
        } else {
            reply
        }
    })
    .await;
    bench.fetch().await.unwrap();
    bench.assert_got(&bytes);
    assert_eq!(bench.wild.asked().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_does_not_tell_the_next_host_where_it_came_from() {
    let served = content(21);
    let elsewhere = Wild::start(move |_, asked| good(asked, &served, "\"v\"")).await;
    let there = format!("http://{}/file", elsewhere.address);
    let bench = Bench::new(move |_, _| Reply::new(302, []).with("location", there.clone())).await;
    let address = format!("http://{}/file?token=secret", bench.wild.address).parse().unwrap();
    let fetch = Fetch { address, ..bench.wish() };
    bench.fetch_with(&bench.web(1, Duration::from_mins(1)), &fetch).await.unwrap();
    bench.assert_got(&content(21));
    assert_eq!(elsewhere.asked().iter().find_map(|asked| asked.field("referer")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_redirects_ends() {
    let (error, _) = not_had(11, |_, asked| Reply::new(302, []).with("location", asked.target.clone())).await;
    assert!(matches!(error, TransferError::Redirected { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_differ_are_never_mixed() {
    let (one, other) = (content(21), content(22));
    let (first, second) = (one.clone(), other.clone());
    let bench = Bench::new(move |number, asked| {
        let (served, etag) = if number % 2 == 1 { (&first, "\"1\"") } else { (&second, "\"2\"") };
        let reply = good(asked, served, etag);
        if number < 5 { reply.then(Then::Cut(1_000_000)) } else { reply }
    })
    .await;
    bench.fetch().await.unwrap();
    let got = std::fs::read(bench.target()).unwrap();
    assert!(got == one || got == other);
    assert!(bench.wild.asked().len() < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_in_between_is_waited_for_and_never_saved() {
    let page = |number| {
        let page = format!("<html>sign in {number}</html>");
        Reply::new(200, page).with("content-type", "text/html; charset=utf-8")
    };
    let (bytes, served) = (content(23), content(23));
    had(&bytes, 4, move |number, asked| match number {
        1 => good(asked, &served, "\"v\"").then(Then::Cut(1_000_000)),
        2 | 3 => page(number),
        _ => good(asked, &served, "\"v\""),
    })
    .await;
    let served = content(23);
    let (error, kept) = not_had(4, move |number, asked| match number {
        1 => good(asked, &served, "\"v\"").then(Then::Cut(1_000_000)),
        _ => page(number),
    })
    .await;
    assert!(matches!(error, TransferError::Unusable { refusal: Refusal::Interposed, .. }), "{error:?}");
    assert!(kept, "what came before is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_is_not_saved_in_place_of_a_file_that_nothing_pins() {
    let served = content(33);
    let bench = Bench::new(move |number, asked| match number {
        1 => good(asked, &served, "\"v\"").without("etag").then(Then::Cut(1_000_000)),
        _ => Reply::new(200, "<html>").with("content-type", "text/html"),
    })
    .await;
    for requests in [4, 7] {
        let error = bench.fetch().await.unwrap_err();
        let interposed = matches!(error, TransferError::Unusable { refusal: Refusal::Interposed, .. });
        assert!(interposed && !bench.target().exists(), "{error:?}");
        assert_eq!(bench.wild.asked().len(), requests, "also in the next process");
    }
    let served = content(33);
    bench.wild.script(move |_, asked| good(asked, &served, "\"v\"").without("etag"));
    bench.fetch().await.unwrap();
    bench.assert_got(&content(33));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stalls_or_trickles_is_left() {
    for then in [Then::Stall(0), Then::Stall(1_000_000), Then::Trickle(1_000_000)] {
        let (bytes, served) = (content(24), content(24));
        let bench = Bench::new(move |number, asked| {
            let reply = good(asked, &served, "\"v\"");
            if number == 1 { reply.then(then) } else { reply }
        })
        .await;
        let web = bench.web(6, Duration::from_millis(500));
        bench.fetch_with(&web, &bench.wish()).await.unwrap();
        bench.assert_got(&bytes);
        // A machine that is busy may look like a line that stalls once more.
        assert!((2..5).contains(&bench.wild.asked().len()));
    }
    // For ever: it ends, and what came is kept.
    let served = content(24);
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"").then(Then::Trickle(100_000))).await;
    let web = bench.web(3, Duration::from_millis(100));
    let error = bench.fetch_with(&web, &bench.wish()).await.unwrap_err();
    let given_up = matches!(error, TransferError::Stalled { .. } | TransferError::Disconnected { .. });
    assert!(given_up, "{error:?}");
    assert!(bench.wild.asked().len() < 10);
    assert_eq!(bench.names(), ["a.part"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_without_a_length_is_called_unverified() {
    let (bytes, served) = (content(25), content(25));
    let old = move |_: usize, _: &Asked| Reply {
        version: "HTTP/1.0",
        ..Reply::new(200, served.clone()).framed(Framing::Close)
    };
    let fetched = had(&bytes, 1, old.clone()).await;
    assert_eq!((fetched.how, fetched.proof), (How::Fetched, Proof::Unverified));
    // A digest proves what no length does.
    let bench = Bench::new(old).await;
    let sha256 = digest(Algorithm::Sha256, &bytes);
    let wish = Fetch { digests: [sha256].into_iter().collect(), ..bench.wish() };
    let fetched = bench.fetch_with(&bench.web(1, Duration::from_mins(1)), &wish).await.unwrap();
    assert_eq!(fetched.proof, Proof::Digest(Algorithm::Sha256));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_size_costs_nothing_before_it_is_true() {
    let (error, kept) = not_had(1, |_, _| {
        let range = "bytes 0-9/10995116277760";
        Reply::new(206, [0; 10]).with("content-range", range).with("etag", "\"v\"")
    })
    .await;
    let claimed = Length::new(10_995_116_277_760);
    assert!(matches!(error, TransferError::NoRoom { size, .. } if size == claimed), "{error:?}");
    assert!(!kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_names_a_file_but_never_its_place() {
    #[track_caller]
    fn check(disposition: Option<&'static str>, target: &'static str, expected: &'static str) -> impl Future {
        let caller = std::panic::Location::caller();
        async move {
            let bench = Bench::new(move |_, asked| {
                let reply = good(asked, b"content", "\"v\"");
                disposition.map_or(reply.clone(), |name| reply.with("content-disposition", name))
            })
            .await;
            let folder = bench.target().parent().unwrap().to_owned();
            let address = format!("http://{}{target}", bench.wild.address).parse().unwrap();
            let wish = Fetch { address, target: Target::Folder(folder.clone()), ..bench.wish() };
            let web = bench.web(1, Duration::from_mins(1));
            let fetched = bench.fetch_with(&web, &wish).await.unwrap();
            assert_eq!(
                (fetched.path, bench.names()),
                (folder.join(expected), vec![expected.to_owned()]),
                "at {caller}"
            );
            let again = bench.fetch_with(&web, &wish).await;
            assert!(matches!(again, Err(TransferError::TargetExists { .. })), "at {caller}");
        }
    }
    check(None, "/pub/big%20file.iso?token=secret", "big file.iso").await;
    check(Some("attachment; filename=\"a.iso\""), "/x", "a.iso").await;
    check(Some("attachment; filename=\"../../evil\""), "/x", "evil").await;
    check(Some("attachment; filename*=UTF-8''%2e%2e%2fevil"), "/x", "evil").await;
    check(Some("attachment; filename=\"/etc/.hidden\""), "/x", "hidden").await;
    check(Some("attachment; filename=\"..\""), "/..%2f..%2fy", "y").await;
    check(None, "/", "download").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_unless_asked() {
    let bench = Bench::new(|_, asked| good(asked, b"new", "\"v\"")).await;
    std::fs::create_dir_all(bench.target().parent().unwrap()).unwrap();
    std::fs::write(bench.target(), b"old").unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, TransferError::TargetExists { .. }), "{error:?}");
    assert!(bench.wild.asked().is_empty(), "nothing is asked for that could not be kept");
    assert_eq!(std::fs::read(bench.target()).unwrap(), b"old");
    // The very file is there already.
    let web = bench.web(1, Duration::from_mins(1));
    let there = Fetch { digests: [digest(Algorithm::Blake3, b"old")].into_iter().collect(), ..bench.wish() };
    assert_eq!(bench.fetch_with(&web, &there).await.unwrap().how, How::There);
    let wish = Fetch { overwrite: Overwrite::Replace, ..bench.wish() };
    bench.fetch_with(&web, &wish).await.unwrap();
    bench.assert_got(b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_verified_whoever_states_it() {
    let bytes = content(26);
    let true_digest = repr_digest(&bytes);
    let served = bytes.clone();
    let fetched = had(&bytes, 1, move |_, asked| {
        good(asked, &served, "\"v\"").with("repr-digest", true_digest.clone())
    })
    .await;
    assert_eq!(fetched.proof, Proof::Digest(Algorithm::Sha256));
    let (served, md5) = (bytes.clone(), digest(Algorithm::Md5, &bytes));
    let md5 = data_encoding::BASE64.encode(md5.value());
    let fetched =
        had(&bytes, 1, move |_, _| Reply::new(200, served.clone()).with("content-md5", md5.clone())).await;
    assert_eq!(fetched.proof, Proof::Digest(Algorithm::Md5));
    // The server contradicts itself: fetched once more, then refused, and nothing is kept.
    let served = bytes.clone();
    let (error, kept) =
        not_had(2, move |_, asked| good(asked, &served, "\"v\"").with("repr-digest", repr_digest(b"x")))
            .await;
    assert!(matches!(error, TransferError::DigestMismatch { .. }), "{error:?}");
    assert!(!kept);
    // Damaged on its way, once.
    let served = bytes.clone();
    let bench = Bench::new(move |number, asked| {
        let mut reply = good(asked, &served, "\"v\"");
        reply.body[77] ^= u8::from(number == 1);
        reply
    })
    .await;
    let wish = Fetch { digests: [digest(Algorithm::Blake3, &bytes)].into_iter().collect(), ..bench.wish() };
    let fetched = bench.fetch_with(&bench.web(1, Duration::from_mins(1)), &wish).await.unwrap();
    assert_eq!(fetched.proof, Proof::Digest(Algorithm::Blake3));
    bench.assert_got(&bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_lets_an_unpinned_file_go_on_and_proves_it_at_the_end() {
    for lies in [false, true] {
        let (bytes, other) = (content(27), content(28));
        let served = bytes.clone();
        let bench = Bench::new(move |number, asked| {
            let reply =
                good(asked, if lies && number == 1 { &other } else { &served }, "\"v\"").without("etag");
            if number == 1 { reply.then(Then::Cut(1_000_000)) } else { reply }
        })
        .await;
        let wish =
            Fetch { digests: [digest(Algorithm::Sha256, &bytes)].into_iter().collect(), ..bench.wish() };
        bench.fetch_with(&bench.web(6, Duration::from_mins(1)), &wish).await.unwrap();
        bench.assert_got(&bytes);
        let asked = bench.wild.asked();
        assert!(asked[1].range().unwrap().0 > 0, "it goes on where it was");
        assert_eq!(asked.len(), if lies { 3 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_share_the_work_and_never_a_byte() {
    // Every connection is slow by itself, so a second one pays.
    let bytes = noise(10_000_000, 29);
    let served = bytes.clone();
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"").then(Then::Pace)).await;
    let wish = Fetch { connections: 4, ..bench.wish() };
    bench.fetch_with(&bench.web(6, Duration::from_mins(1)), &wish).await.unwrap();
    bench.assert_got(&bytes);
    let asked = bench.wild.asked();
    assert!((2..=4).contains(&asked.iter().map(|asked| asked.busy).max().unwrap()), "{asked:#?}");
    for asked in &asked[1..] {
        assert_eq!(asked.field("if-range"), Some("\"v\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_allows_two_connections_gets_two() {
    let bytes = noise(8_000_000, 30);
    let served = bytes.clone();
    let bench = Bench::new(move |_, asked| match asked.busy {
        3.. => Reply::new(429, []).with("retry-after", "100"),
        _ => good(asked, &served, "\"v\"").then(Then::Pace),
    })
    .await;
    let wish = Fetch { connections: 8, ..bench.wish() };
    bench.fetch_with(&bench.web(6, Duration::from_mins(1)), &wish).await.unwrap();
    bench.assert_got(&bytes);
    assert!(bench.wild.asked().len() < 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_one_version_in_order() {
    async fn stream(bench: &Bench, digests: Digests) -> (Result<Proof, TransferError>, Vec<u8>) {
        let path = bench.folder.path().join("out");
        let output = std::fs::File::create(&path).unwrap();
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let web = bench.web(6, Duration::from_mins(1));
        let streamed = fetch_stream(&web, (&bench.wish().address, &digests), output, &silent).await;
        (streamed.map(|streamed| streamed.proof), std::fs::read(path).unwrap())
    }
    let bytes = content(31);
    for ranges in [true, false] {
        let served = bytes.clone();
        let bench = Bench::new(move |number, asked| {
            let asked = if ranges { asked.clone() } else { Asked { fields: Vec::new(), ..asked.clone() } };
            let reply = good(&asked, &served, "\"v\"");
            if number < 4 { reply.then(Then::Cut(number * 700_000)) } else { reply }
        })
        .await;
        let (proof, got) = stream(&bench, Digests::default()).await;
        assert_eq!(proof.unwrap(), Proof::Length);
        assert!(got == bytes);
    }
    // Another version cannot take back what left of the first.
    let (old, new) = (content(31), content(32));
    let bench = Bench::new(move |number, asked| match number {
        1 => good(asked, &old, "\"old\"").then(Then::Cut(1_000_000)),
        _ => good(asked, &new, "\"new\""),
    })
    .await;
    let (error, got) = stream(&bench, Digests::default()).await;
    assert!(matches!(error, Err(TransferError::Changed { .. })), "{error:?}");
    assert!(bytes.starts_with(&got));
    let served = bytes.clone();
    let bench = Bench::new(move |_, asked| good(asked, &served, "\"v\"")).await;
    let (error, _) = stream(&bench, [digest(Algorithm::Sha256, b"x")].into_iter().collect()).await;
    assert!(matches!(error, Err(TransferError::DigestMismatch { .. })), "{error:?}");
}
