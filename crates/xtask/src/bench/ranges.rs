//! Two hundred ranges of one large file at once, as a crowd of readers asks for them. Owns the asking, by a client so
//! plain that it cannot be at fault: a thread and a connection per range. What it uses up is not counted.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;

use super::Bench;
use super::measure::Cost;
use super::metric::{Bar, Metric, mebibytes};
use super::subject::{Subject, Who, readable};
use super::transfers::{PLACED, Series, placed};
use crate::rig::bytes::{MIB, content, write_file};
use crate::rig::server::ADMIN;
use crate::rig::usage::{peak_memory, processor_time};

/// How many ranges are asked for at once, and how large each is.
const RANGES: u64 = 200;
const RANGE: u64 = 8 * MIB;

/// How many bytes at each end of an answer are compared with what they have to be.
const EDGE: u64 = 4 << 10;

/// How much is received at once.
const RECEIVED: usize = 256 << 10;

/// How long an answer may hold still.
const PATIENCE: Duration = Duration::from_mins(2);

const WHAT: &str = "200 ranges × 8 MiB";

/// What one server made of the ranges.
struct Subjects {
    who: Who,
    series: Series,
    /// How many ranges were not answered as they have to be, one number per sample.
    errors: Vec<f64>,
}

/// Measures the ranges.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let local = bench.folder.join("source");
    let mut subjects = readable()
        .into_iter()
        .map(|who| Subjects { who, series: Series::new(who.name()), errors: Vec::new() })
        .collect::<Vec<_>>();
    for sample in 0..bench.samples {
        let seed = u64::from(sample) + 400;
        write_file(&local, seed, bench.size)?;
        for subject in &mut subjects {
            let server = placed(bench, subject.who, &local)?;
            let (cost, errors) = ask_all(&server, seed, bench.size)?;
            for error in errors.iter().take(1) {
                println!("{}: {} errors, the first: {error:#}", subject.who.name(), errors.len());
            }
            subject.series.costs.push(cost);
            subject.errors.push(f64::from(u32::try_from(errors.len())?));
        }
    }
    Ok(metrics(&subjects))
}

fn metrics(subjects: &[Subjects]) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for Subjects { who, series, errors } in subjects {
        let bar = if *who == Who::Hapax { Bar::AtMost(0.0) } else { Bar::None };
        let what = |name: &str| format!("{WHAT}, {name}");
        metrics.push(series.metric(&what("server CPU s"), |cost| cost.server.as_secs_f64(), Bar::None));
        metrics.push(series.metric(&what("wall s"), |cost| cost.wall.as_secs_f64(), Bar::None));
        metrics.push(series.metric(&what("server peak MiB"), |cost| mebibytes(cost.server_peak), Bar::None));
        metrics.push(Metric::new(&what("errors"), who.name(), errors.iter().copied(), bar));
    }
    let find = |who: Who| subjects.iter().find(|subject| subject.who == who);
    if let (Some(ours), Some(theirs)) = (find(Who::Hapax), find(Who::Caddy)) {
        let pairs = ours.series.costs.iter().zip(&theirs.series.costs);
        let ratios = pairs.map(|(ours, theirs)| ours.server.div_duration_f64(theirs.server));
        let what = format!("{WHAT}, server CPU");
        metrics.push(Metric::new(&what, "hapax ÷ caddy", ratios, Bar::AtMost(1.0)));
    }
    metrics
}

/// Asks a server for all ranges at once, over connections that are there already.
fn ask_all(server: &Subject, seed: u64, size: u64) -> anyhow::Result<(Cost, Vec<anyhow::Error>)> {
    // Spread over the whole file, aligned to nothing.
    let starts = (0..RANGES).map(|number| (size - RANGE) * number / (RANGES - 1)).collect::<Vec<_>>();
    let streams = starts
        .iter()
        .map(|_| TcpStream::connect(server.address))
        .collect::<io::Result<Vec<_>>>()
        .context("not every reader could connect")?;
    let before = processor_time(server.id());
    let start = Instant::now();
    let answers = thread::scope(|scope| {
        let readers = starts.iter().zip(streams).map(|(from, stream)| {
            scope.spawn(move || {
                let file = Content { seed, size };
                ask(&stream, server, &file, *from)
            })
        });
        let readers = readers.collect::<Vec<_>>();
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect::<Vec<_>>()
    });
    let wall = start.elapsed();
    let spent = processor_time(server.id()).saturating_sub(before);
    let server_peak = peak_memory(server.id());
    let cost = Cost { wall, client: Duration::ZERO, server: spent, server_peak, client_peak: 0 };
    Ok((cost, answers.into_iter().filter_map(Result::err).collect()))
}

/// What the file has to hold.
struct Content {
    seed: u64,
    size: u64,
}

/// Asks for one range, and compares its head, its length and its two ends.
fn ask(mut stream: &TcpStream, server: &Subject, file: &Content, from: u64) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let last = from + RANGE - 1;
    let account = BASE64.encode(format!("{}:{}", ADMIN.name, ADMIN.password).as_bytes());
    let request = format!(
        "GET {}{PLACED} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {account}\r\nRange: bytes={from}-{last}\r\n\
         Accept-Encoding: identity\r\n\r\n",
        server.prefix, server.address
    );
    stream.write_all(request.as_bytes())?;
    let mut input = BufReader::with_capacity(RECEIVED, stream);
    check_head(&mut input, &format!("bytes {from}-{last}/{}", file.size))?;
    check_edge(&mut input, &content(file.seed, from, EDGE))?;
    let between = io::copy(&mut input.by_ref().take(RANGE - 2 * EDGE), &mut io::sink())?;
    ensure!(between == RANGE - 2 * EDGE, "a range was cut");
    check_edge(&mut input, &content(file.seed, last + 1 - EDGE, EDGE))
}

fn check_edge(input: &mut impl Read, expected: &[u8]) -> anyhow::Result<()> {
    let mut bytes = vec![0; expected.len()];
    input.read_exact(&mut bytes).context("a range was cut")?;
    ensure!(bytes == expected, "a range holds other bytes than the file");
    Ok(())
}

/// Reads the head of an answer, which has to be a 206 for this range and of its length.
fn check_head(input: &mut impl BufRead, expected: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 206 "), "not a part, but: {}", line.trim_end());
    let (mut range, mut length) = (String::new(), String::new());
    loop {
        line.clear();
        ensure!(input.read_line(&mut line)? > 0, "the head was cut");
        let Some((field, value)) = line.trim_end().split_once(':') else { break };
        if field.eq_ignore_ascii_case("content-range") {
            value.trim().clone_into(&mut range);
        }
        if field.eq_ignore_ascii_case("content-length") {
            value.trim().clone_into(&mut length);
        }
    }
    ensure!(range == expected, "{range:?} instead of {expected:?}");
    ensure!(length == RANGE.to_string(), "a length of {length:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_that_of_the_range() {
        #[track_caller]
        fn check(head: &str, expected: bool) {
            assert_eq!(
                check_head(&mut head.as_bytes(), "bytes 0-8388607/9000000").is_ok(),
                expected,
                "{head}"
            );
        }
        let head = |status: &str, range: &str, length: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nContent-Range: {range}\r\n\r\n")
        };
        let range = "bytes 0-8388607/9000000";
        check(&head("206 Partial Content", range, "8388608"), true);
        check(&head("200 OK", range, "8388608"), false);
        check(&head("206 Partial Content", "bytes 0-8388607/*", "8388608"), false);
        check(&head("206 Partial Content", range, "8388607"), false);
        check("HTTP/1.1 206 Partial Content\r\n", false);
        check("", false);
    }
}
