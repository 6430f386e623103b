//! What answers to claims cost, and what their time tells: whether content that others have is answered as fast as content
//! that nobody has, and what comparing a proof of possession takes. Owns who asks for what; what a difference is worth to
//! somebody is the threat model's to say.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use hapax_proto::claim::{ProofHasher, Seed};
use hapax_proto::digest::{Algorithm, Digest, FileHash, Hasher};
use hapax_proto::span::Length;
use serde_json::{Value, json};

use super::Bench;
use super::metric::{Bar, Metric, per_gibibyte};
use super::subject::{Subject, Who};
use crate::rig::bytes::{MIB, content};
use crate::rig::dice::Dice;
use crate::rig::server::{ADMIN, Account};
use crate::rig::talk::{Talk, token};
use crate::rig::usage::processor_time;

/// Who asks for what she does not have.
const ANN: Account = Account { name: "ann", password: "battery staple" };

/// How many contents of each kind are asked for.
const TRIES: u64 = 2_000;
/// How long each is.
const SIZE: u64 = 1_024;
/// How much is made, and hashed, at once.
const PIECE: u64 = 4 * MIB;

/// Measures both.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for (scope, algorithm) in [
        ("user", Algorithm::Blake3),
        ("user", Algorithm::Sha256),
        ("group", Algorithm::Blake3),
        ("server", Algorithm::Blake3),
    ] {
        metrics.extend(times(bench, scope, algorithm)?);
    }
    metrics.extend(proofs(bench)?);
    Ok(metrics)
}

/// Starts a server with a scope, on which even small files are looked for, and Ann.
fn start(bench: &Bench, scope: &str) -> anyhow::Result<Subject> {
    Subject::clear(bench, Who::Hapax)?;
    let scope = format!("HAPAX_CLAIMS={scope}");
    let server = Subject::start_ours(bench, &[&scope, "HAPAX_CLAIMS_MIN=1", "HAPAX_LOOKUPS=sha-256"])?;
    let mut talk = Talk::open(server.address, ADMIN)?;
    let account = json!({"name": ANN.name, "password": ANN.password});
    talk.ask("POST", "/api/v1/admin/users", &[], account.to_string().as_bytes())?.expect(201)?;
    Ok(server)
}

fn talk_as(server: &Subject, account: Account) -> anyhow::Result<Talk> {
    Talk::open_as(server.address, token(server.address, account)?)
}

fn claim(talk: &mut Talk, digest: &Digest, size: u64) -> anyhow::Result<Value> {
    let digest = json!({"alg": digest.algorithm(), "value": digest.hex()});
    let body = json!({"items": [{"path": "/x", "size": size, "digest": digest}]}).to_string();
    let told = talk.ask("POST", "/api/v1/claims", &[], body.as_bytes())?.expect(200)?;
    let mut told: Value = serde_json::from_slice(&told.body)?;
    Ok(told["results"][0].take())
}

/// Asks for contents that somebody else has and for contents that nobody has, in random order, each once.
fn times(bench: &Bench, scope: &str, algorithm: Algorithm) -> anyhow::Result<Vec<Metric>> {
    let server = start(bench, scope)?;
    let mut admin = talk_as(&server, ADMIN)?;
    for seed in 0..TRIES {
        let bytes = content(seed, 0, SIZE);
        // What was declared and verified is found at once.
        let digest = format!("{algorithm}=:{}:", BASE64.encode(digest_of(algorithm, &bytes).value()));
        let fields = [("Repr-Digest", &*digest)];
        admin.ask("PUT", &format!("/files/held/{seed}"), &fields, &bytes)?.expect(201)?;
    }
    let mut talk = talk_as(&server, ANN)?;
    // Those behind are nobody's.
    let mut seeds: Vec<u64> = (0..2 * TRIES).collect();
    let mut dice = Dice::new(1, "order of claims");
    for at in (1..seeds.len()).rev() {
        seeds.swap(at, dice.index(at + 1));
    }
    let (mut held, mut unknown) = (Vec::new(), Vec::new());
    for seed in seeds {
        let digest = digest_of(algorithm, &content(seed, 0, SIZE));
        let begun = Instant::now();
        let told = claim(&mut talk, &digest, SIZE)?;
        let took = begun.elapsed().as_secs_f64() * 1e6;
        ensure!(told == json!({"outcome": "upload"}), "{told}");
        if seed < TRIES { held.push(took) } else { unknown.push(took) }
    }
    let what = |what: &str| format!("claim of {what} by {algorithm}, scope {scope}, µs");
    let apart = rank_score(&held, &unknown);
    Ok(vec![
        Metric::new(&what("content of others"), "2,000 tries", held, Bar::None),
        Metric::new(&what("content of nobody"), "2,000 tries", unknown, Bar::None),
        Metric::new(
            &format!("the two apart by {algorithm}, scope {scope}, |z|"),
            "rank sum test; above 3 is no accident",
            [apart],
            Bar::None,
        ),
    ])
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().get(algorithm).expect("the hasher was made for it")
}

/// Returns how far apart two samples are, in standard deviations of what chance does: the normal approximation of the rank
/// sum of Wilcoxon, Mann and Whitney. Ties of times in nanoseconds are too few to be corrected for.
fn rank_score(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = one.iter().map(|time| (*time, true)).collect();
    all.extend(other.iter().map(|time| (*time, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ranks = all.iter().zip(1_u32..).filter(|((_, is_one), _)| *is_one).map(|(_, rank)| f64::from(rank));
    let count = |sample: &[f64]| f64::from(u32::try_from(sample.len()).expect("a few thousand"));
    let (n, m) = (count(one), count(other));
    let expected = n * (n + m + 1.0) / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    ((ranks.sum::<f64>() - expected) / deviation).abs()
}

/// Proves to have a large file that somebody else has.
fn proofs(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let server = start(bench, "group")?;
    let mut admin = talk_as(&server, ADMIN)?;
    admin.begin("PUT", "/files/film", &[("Content-Length", &bench.size.to_string())])?;
    let mut hasher = blake3::Hasher::new();
    for piece in pieces(bench.size) {
        hasher.update(&piece);
        admin.say(&piece)?;
    }
    admin.hear(true)?.expect(201)?;
    let blake3 = FileHash::from(hasher.finalize());
    let mut root = Talk::open(server.address, ADMIN)?;
    for name in [ADMIN.name, ANN.name] {
        let target = format!("/api/v1/admin/users/{name}");
        root.ask("PATCH", &target, &[], br#"{"group":"bench"}"#)?.expect(200)?;
    }
    let (mut cost, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..bench.samples {
        let mut talk = talk_as(&server, ANN)?;
        let told = claim(&mut talk, &blake3.into(), bench.size)?;
        let seed: Seed = serde_json::from_value(told["seed"].clone()).context("there is a challenge")?;
        let mut hasher = ProofHasher::new(&seed, &blake3.into(), Length::new(bench.size));
        for piece in pieces(bench.size) {
            hasher.update(&piece);
        }
        let items = json!({"items": [{"token": told["token"], "proof": hasher.finish()}]}).to_string();
        let (begun, before) = (Instant::now(), processor_time(server.id()));
        let told = talk.ask("POST", "/api/v1/claims/proofs", &[], items.as_bytes())?.expect(200)?;
        wall.push(begun.elapsed().as_secs_f64());
        cost.push(per_gibibyte(processor_time(server.id()).saturating_sub(before), bench.size));
        let told: Value = serde_json::from_slice(&told.body)?;
        ensure!(told["results"][0]["outcome"] == "linked", "{told}");
        talk.ask("DELETE", "/files/x", &[], b"")?.expect(204)?;
    }
    Ok(vec![
        Metric::new("proof compared, server CPU s/GiB", "hapax serve", cost, Bar::AtMost(1.0)),
        Metric::new("proof of a large file compared, s", "hapax serve", wall, Bar::None),
    ])
}

/// Returns the large file, piece by piece.
fn pieces(size: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..size.div_ceil(PIECE)).map(move |n| content(1, n * PIECE, PIECE.min(size - n * PIECE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_kind_are_not_apart_and_others_are() {
        let spread =
            |from: u32| (0..500_u32).map(|n| f64::from(from + n * 7_919 % 1_000)).collect::<Vec<_>>();
        assert!(rank_score(&spread(0), &spread(0)) < 1.0);
        assert!(rank_score(&spread(0), &spread(500)) > 10.0);
    }
}
