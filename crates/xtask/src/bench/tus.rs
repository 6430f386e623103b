//! tus: one large file to every server that speaks it, by the same sender, and one file composed of four uploads. Owns
//! the requests, which are those that every client of tus makes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::measure::cost;
use super::metric::{Bar, Metric, mebibytes, per_gibibyte};
use super::subject::{Subject, Who, tus_speaking};
use super::transfers::Series;
use crate::rig::bytes::write_file;
use crate::rig::curl;
use crate::rig::server::ADMIN;
use crate::rig::talk::Talk;
use crate::rig::usage::peak_memory;

/// The version of every request.
pub(crate) const VERSION: (&str, &str) = ("Tus-Resumable", "1.0.0");

/// How many uploads are composed to one file.
const PIECES: u64 = 4;

/// How long the composing of a file may take: nothing is copied.
const FINISH: f64 = 0.02;

/// Begins an upload, and returns the path of its address.
pub(crate) fn create(talk: &mut Talk, fields: &[(&str, &str)]) -> anyhow::Result<String> {
    let created = talk.ask("POST", "/tus/", &[&[VERSION], fields].concat(), b"")?.expect(201)?;
    let location = created.field("location")?;
    // Some say where with the host, some without.
    let path =
        location.split_once("://").map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    Ok(path.to_owned())
}

/// Makes the command that sends a file to an upload of which nothing is there.
fn send(server: &Subject, path: &str, local: &Path) -> Command {
    let mut command = curl::curl(ADMIN);
    command.args([
        "--fail",
        "--request",
        "PATCH",
        "--header",
        "Tus-Resumable: 1.0.0",
        "--header",
        "Upload-Offset: 0",
    ]);
    command.args(["--header", "Content-Type: application/offset+octet-stream", "--upload-file"]).arg(local);
    command.arg(format!("{}{path}", server.base())).stdout(Stdio::null());
    command
}

/// Measures uploads: one request that creates, one by curl that brings all bytes.
pub(crate) fn upload(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut all: Vec<_> = tus_speaking()
        .into_iter()
        .map(|who| (who, Series::new(&format!("curl to {}", who.name()))))
        .collect();
    let local = bench.folder.join("source");
    let length = bench.size.to_string();
    for sample in 0..bench.samples {
        write_file(&local, u64::from(sample) + 500, bench.size)?;
        for (who, series) in &mut all {
            let server = Subject::start(bench, *who)?;
            let mut talk = Talk::open(server.address, ADMIN)?;
            let fields = [("Upload-Length", length.as_str()), ("Upload-Metadata", "filename ZmlsbS5ta3Y=")];
            let path = create(&mut talk, &fields).with_context(|| who.name())?;
            series.costs.push(cost(bench, &mut send(&server, &path, &local), &server)?);
        }
    }
    let mut metrics = Vec::new();
    for (who, series) in &all {
        let ours = *who == Who::Hapax;
        let per = |cost: &super::measure::Cost| per_gibibyte(cost.server, bench.size);
        let bar = if ours { Bar::AtMost(2.0) } else { Bar::None };
        metrics.push(series.metric("tus, server CPU s/GiB", per, bar));
        metrics.push(series.metric("tus, wall s", |cost| cost.wall.as_secs_f64(), Bar::None));
        let bar = if ours { Bar::AtMost(64.0) } else { Bar::None };
        metrics.push(series.metric("tus, server peak MiB", |cost| mebibytes(cost.server_peak), bar));
    }
    let find = |who: Who| all.iter().find(|(found, _)| *found == who).map(|(_, series)| series);
    if let (Some(ours), Some(theirs)) = (find(Who::Hapax), find(Who::Tusd)) {
        let pairs = ours.costs.iter().zip(&theirs.costs);
        let ratios = pairs.map(|(ours, theirs)| ours.server.div_duration_f64(theirs.server));
        metrics.push(Metric::new("tus, server CPU", "hapax ÷ tusd", ratios, Bar::AtMost(1.6)));
    }
    Ok(metrics)
}

/// What composing a file came to.
struct Composed {
    took: Duration,
    /// Objects that are there since.
    objects: u64,
    peak: u64,
}

/// Measures the request that makes one file of four uploads.
pub(crate) fn concatenation(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut all = Vec::new();
    for sample in 0..bench.samples {
        all.push(compose(bench, u64::from(sample) * PIECES + 600)?);
    }
    let subject = format!("hapax serve, {PIECES} × {:.0} MiB", mebibytes(bench.size / PIECES));
    let metric = |what: &str, value: fn(&Composed) -> f64, bar| {
        Metric::new(what, &subject, all.iter().map(value), bar)
    };
    Ok(vec![
        metric("concatenation, s", |composed| composed.took.as_secs_f64(), Bar::AtMost(FINISH)),
        metric("concatenation, objects written", |composed| number(composed.objects), Bar::AtMost(0.0)),
        metric("concatenation, server peak MiB", |composed| mebibytes(composed.peak), Bar::AtMost(64.0)),
    ])
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn compose(bench: &Bench, seed: u64) -> anyhow::Result<Composed> {
    let server = Subject::start(bench, Who::Hapax)?;
    let mut talk = Talk::open(server.address, ADMIN)?;
    let (local, size) = (bench.folder.join("source"), bench.size / PIECES);
    let mut concat = "final;".to_owned();
    for piece in 0..PIECES {
        write_file(&local, seed + piece, size)?;
        let path = create(&mut talk, &[("Upload-Length", &size.to_string()), ("Upload-Concat", "partial")])?;
        cost(bench, &mut send(&server, &path, &local), &server)?;
        concat += &path;
        concat += " ";
    }
    let before = objects(&mut talk)?;
    let start = Instant::now();
    create(&mut talk, &[("Upload-Concat", concat.trim_end()), ("Upload-Metadata", "filename ZmlsbS5ta3Y=")])?;
    let took = start.elapsed();
    let objects = objects(&mut talk)?.saturating_sub(before);
    let peak = peak_memory(server.id());
    let whole = talk.ask("HEAD", "/files/film.mkv", &[], b"")?.expect(200)?;
    anyhow::ensure!(whole.field("content-length")? == (size * PIECES).to_string(), "the file is not whole");
    Ok(Composed { took, objects, peak })
}

/// Asks how many objects the server holds.
fn objects(talk: &mut Talk) -> anyhow::Result<u64> {
    let stats = talk.ask("GET", "/api/v1/admin/stats", &[], b"")?.expect(200)?;
    let stats: serde_json::Value = serde_json::from_slice(&stats.body)?;
    stats["objects"].as_u64().context("the server does not tell its objects")
}
