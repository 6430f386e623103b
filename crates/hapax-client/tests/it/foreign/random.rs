//! Servers that misbehave at random, over several runs: no script makes a wrong file a success.

use std::time::Duration;

use hapax_client::foreign::Fetch;
use proptest::prelude::*;

use super::Bench;
use crate::put::noise;
use crate::wild::{Asked, Framing, Reply, Then, good};

/// What a server does to one answer.
#[derive(Debug, Clone)]
enum Trick {
    Nothing,
    Cut(usize),
    Status(u16),
    IgnoreRange,
    IgnoreCondition,
    NoValidator,
    WeakValidator,
    ShortPart(usize),
    NoTotal,
    OtherTotal,
    NoContentRange,
    OtherStart,
    Gzip,
    Page,
    Chunked,
    ToNewVersion,
}

fn trick() -> impl Strategy<Value = Trick> {
    prop_oneof![
        4 => Just(Trick::Nothing),
        4 => (0..60_000_usize).prop_map(Trick::Cut),
        2 => prop_oneof![Just(503), Just(404), Just(416), Just(412), Just(500), Just(403)].prop_map(Trick::Status),
        2 => Just(Trick::IgnoreRange),
        2 => Just(Trick::IgnoreCondition),
        1 => Just(Trick::NoValidator),
        1 => Just(Trick::WeakValidator),
        2 => (1..30_000_usize).prop_map(Trick::ShortPart),
        1 => Just(Trick::NoTotal),
        1 => Just(Trick::OtherTotal),
        1 => Just(Trick::NoContentRange),
        1 => Just(Trick::OtherStart),
        1 => Just(Trick::Gzip),
        1 => Just(Trick::Page),
        1 => Just(Trick::Chunked),
        2 => Just(Trick::ToNewVersion),
    ]
}

/// Answers with the version of the moment, as the tricks say.
fn tricky(tricks: &[Trick], version: &mut usize, versions: &[Vec<u8>], asked: &Asked) -> Reply {
    let mut asked = asked.clone();
    for trick in tricks {
        match trick {
            Trick::ToNewVersion => *version = (*version + 1) % versions.len(),
            Trick::IgnoreRange => asked.fields.retain(|(name, _)| name != "range"),
            Trick::IgnoreCondition => asked.fields.retain(|(name, _)| name != "if-range"),
            Trick::ShortPart(length) => {
                if let Some((start, _)) = asked.range() {
                    let range = format!("bytes={start}-{}", start + length);
                    asked.fields.iter_mut().find(|(name, _)| name == "range").unwrap().1 = range;
                }
            }
            _ => {}
        }
    }
    let served = &versions[*version];
    let mut reply = good(&asked, served, &format!("\"{version}\""));
    let range = reply.fields.iter().find(|(name, _)| name == "content-range").map(|(_, range)| range.clone());
    for trick in tricks {
        reply = match (trick, &range) {
            (Trick::Cut(at), _) => reply.then(Then::Cut(*at)),
            (Trick::Status(status), _) => Reply::new(*status, []),
            (Trick::NoValidator, _) => reply.without("etag"),
            (Trick::WeakValidator, _) => reply.with("etag", format!("W/\"{version}\"")),
            (Trick::NoTotal, Some(range)) => {
                reply.with("content-range", range.split('/').next().unwrap().to_owned() + "/*")
            }
            (Trick::OtherTotal, Some(range)) => {
                reply.with("content-range", range.split('/').next().unwrap().to_owned() + "/123456")
            }
            (Trick::NoContentRange, _) => reply.without("content-range"),
            (Trick::OtherStart, Some(_)) => reply.with("content-range", "bytes 7-9/60000"),
            (Trick::Gzip, _) => reply.with("content-encoding", "gzip"),
            (Trick::Page, _) => Reply::new(200, "<html>").with("content-type", "text/html"),
            (Trick::Chunked, _) => reply.framed(Framing::Chunked),
            _ => reply,
        };
    }
    reply
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever a server does, in whatever order, over several runs: what is said to be a success is one version of
    /// the file, whole. A page at the very beginning is what the server says the file is.
    #[test]
    fn no_script_makes_a_wrong_file_a_success(
        script in prop::collection::vec(prop::collection::vec(trick(), 0..3), 0..24),
        size in 1..60_000_usize,
        connections in 1..4_usize,
    ) {
        let versions: Vec<_> = (0..3).map(|seed| noise(size + 1_000 * usize::from(seed == 2), 40 + seed)).collect();
        let served = versions.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let (mut version, mut number) = (0, 0);
            let bench = Bench::new(move |_, asked| {
                let tricks = script.get(number).cloned().unwrap_or_default();
                number += 1;
                tricky(&tricks, &mut version, &served, asked)
            })
            .await;
            let mut outcome = None;
            for _ in 0..4 {
                let wish = Fetch { connections, ..bench.wish() };
                let ended = bench.fetch_with(&bench.web(3, Duration::from_mins(1)), &wish).await;
                let success = ended.is_ok();
                outcome = Some(ended);
                if success { break; }
                prop_assert!(!bench.target().exists(), "a failure leaves nothing under the name");
            }
            let asked = bench.wild.asked().len();
            prop_assert!(asked < 200, "{} requests", asked);
            if let Some(Ok(fetched)) = outcome {
                let got = std::fs::read(bench.target()).unwrap();
                let one = versions.contains(&got) || got == b"<html>";
                prop_assert!(one, "{:?}: {} bytes that are no version", fetched, got.len());
            }
            Ok(())
        })?;
    }
}
