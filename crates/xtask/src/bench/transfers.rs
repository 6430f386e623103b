//! Whole files up and down: our client and curl against our server, curl against the floor and the peers. Owns the
//! pairs that are compared; a ratio is always taken within one run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Bench;
use super::measure::{Cost, cost};
use super::metric::{Bar, Metric, mebibytes, per_gibibyte};
use super::subject::{Subject, Who, present, readable};
use crate::rig::bytes::write_file;
use crate::rig::client::Client;
use crate::rig::curl;
use crate::rig::process::End;
use crate::rig::server::ADMIN;

/// Under which name servers hold what was placed there.
pub(crate) const PLACED: &str = "curl";

/// The costs of one way of transfer, one per sample.
pub(crate) struct Series {
    subject: String,
    pub(crate) costs: Vec<Cost>,
}

impl Series {
    /// Begins with none.
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), costs: Vec::new() }
    }

    /// Makes a metric of one value of each.
    pub(crate) fn metric(&self, what: &str, value: impl Fn(&Cost) -> f64, bar: Bar) -> Metric {
        Metric::new(what, &self.subject, self.costs.iter().map(value), bar)
    }

    /// Makes a metric of how many times as long as the other these took.
    pub(crate) fn ratio(&self, what: &str, other: &Self, bar: Bar) -> Metric {
        let subject = format!("{} ÷ {}", self.subject, other.subject);
        let pairs = self.costs.iter().zip(&other.costs);
        Metric::new(what, &subject, pairs.map(|(ours, theirs)| ours.wall.div_duration_f64(theirs.wall)), bar)
    }
}

/// Makes a client that remembers nothing but its token: the exchange of the password is slow on purpose, happens
/// once, and is not what is measured.
pub(crate) fn fresh_client(bench: &Bench, url: &str) -> anyhow::Result<Client> {
    let home = bench.folder.join("client");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    let (hapax, url) = (bench.hapax.clone(), url.to_owned());
    let client = Client { hapax, home, url, account: ADMIN, patience: bench.patience, around: Vec::new() };
    let listed = client.run(["ls", ":/"])?;
    anyhow::ensure!(listed.end == End::Exit(0), "a new client cannot list: {:?}", listed.end);
    Ok(client)
}

/// Makes a new large file; every sample has its own, since content that is known is not sent.
fn source(bench: &Bench, seed: u32) -> anyhow::Result<PathBuf> {
    let path = bench.folder.join("source");
    write_file(&path, u64::from(seed), bench.size)?;
    Ok(path)
}

fn curl_put(server: &Subject, local: &Path) -> Command {
    let mut command = curl::curl(ADMIN);
    command.args(["--fail", "--upload-file"]).arg(local).arg(server.url(PLACED)).stdout(Stdio::null());
    command
}

fn curl_get(server: &Subject, target: &Path) -> Command {
    let mut command = curl::curl(ADMIN);
    command.args(["--fail", "--output"]).arg(target).arg(server.url(PLACED));
    command
}

/// Measures uploads.
pub(crate) fn upload(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut ours = Series::new("hapax put");
    let mut others = series_of_curl(present());
    for sample in 0..bench.samples {
        let local = source(bench, sample)?;
        let server = Subject::start(bench, Who::Hapax)?;
        let client = fresh_client(bench, &server.base())?;
        let mut put = client.command(["put".as_ref(), local.as_os_str(), ":/ours".as_ref()])?;
        ours.costs.push(cost(bench, &mut put, &server)?);
        drop(server);
        for (who, series) in &mut others {
            let server = Subject::start(bench, *who)?;
            series.costs.push(cost(bench, &mut curl_put(&server, &local), &server)?);
        }
    }
    let mut metrics = both_sides("upload", &ours, bench, (2.0, 1.5));
    metrics.extend(of_curl("upload", &others, bench));
    // One upload at a time: what curl costs the server is held against the same bar.
    metrics.push(ours.ratio("upload, wall", &others[0].1, Bar::AtMost(1.0)));
    metrics.push(ours.ratio("upload, wall", &others[1].1, Bar::None));
    Ok(metrics)
}

/// Measures downloads.
pub(crate) fn download(bench: &Bench) -> anyhow::Result<Vec<Metric>> {
    let mut ours = Series::new("hapax get");
    let mut others = series_of_curl(readable());
    let target = bench.folder.join("target");
    for sample in 0..bench.samples {
        let local = source(bench, sample)?;
        let gone = || if target.exists() { std::fs::remove_file(&target) } else { Ok(()) };
        let server = placed(bench, Who::Hapax, &local)?;
        let client = fresh_client(bench, &server.base())?;
        gone()?;
        let mut get = client.command(["get".as_ref(), format!(":/{PLACED}").as_ref(), target.as_os_str()])?;
        ours.costs.push(cost(bench, &mut get, &server)?);
        drop(server);
        for (who, series) in &mut others {
            let server = placed(bench, *who, &local)?;
            gone()?;
            series.costs.push(cost(bench, &mut curl_get(&server, &target), &server)?);
        }
        gone()?;
    }
    let mut metrics = both_sides("download", &ours, bench, (1.2, 1.5));
    metrics.extend(of_curl("download", &others, bench));
    metrics.push(ours.ratio("download, wall", &others[0].1, Bar::AtMost(1.1)));
    metrics.push(ours.ratio("download, wall", &others[1].1, Bar::None));
    Ok(metrics)
}

/// Starts a server that holds the file as [`PLACED`].
pub(crate) fn placed(bench: &Bench, who: Who, local: &Path) -> anyhow::Result<Subject> {
    let server = Subject::start(bench, who)?;
    if who.receives() {
        let done = curl::put_file(&server.url(PLACED), ADMIN, local)?;
        anyhow::ensure!(done, "curl could not put to {}", who.name());
    } else {
        std::fs::hard_link(local, who.data(bench).join(PLACED))?;
    }
    Ok(server)
}

fn series_of_curl(servers: Vec<Who>) -> Vec<(Who, Series)> {
    servers.into_iter().map(|who| (who, Series::new(&format!("curl to {}", who.name())))).collect()
}

/// Returns what our client against our server is held to.
fn both_sides(what: &str, ours: &Series, bench: &Bench, (server, client): (f64, f64)) -> Vec<Metric> {
    let per = |name: &str| format!("{what}, {name} CPU s/GiB");
    vec![
        ours.metric(&per("server"), |cost| per_gibibyte(cost.server, bench.size), Bar::AtMost(server)),
        ours.metric(&per("client"), |cost| per_gibibyte(cost.client, bench.size), Bar::AtMost(client)),
        ours.metric(
            &format!("{what}, server peak MiB"),
            |cost| mebibytes(cost.server_peak),
            Bar::AtMost(64.0),
        ),
        ours.metric(&format!("{what}, client peak MiB"), |cost| mebibytes(cost.client_peak), Bar::None),
        ours.metric(&format!("{what}, wall s"), |cost| cost.wall.as_secs_f64(), Bar::None),
    ]
}

fn of_curl(what: &str, others: &[(Who, Series)], bench: &Bench) -> Vec<Metric> {
    let bar = |who: Who| match (who, what) {
        (Who::Hapax, "upload") => Bar::AtMost(2.0),
        (Who::Hapax, _) => Bar::AtMost(1.2),
        _ => Bar::None,
    };
    let mut metrics = Vec::new();
    for (who, series) in others {
        let server = |cost: &Cost| per_gibibyte(cost.server, bench.size);
        metrics.push(series.metric(&format!("{what}, server CPU s/GiB"), server, bar(*who)));
        metrics.push(series.metric(&format!("{what}, wall s"), |cost| cost.wall.as_secs_f64(), Bar::None));
        let memory = if *who == Who::Hapax { Bar::AtMost(64.0) } else { Bar::None };
        metrics.push(series.metric(
            &format!("{what}, server peak MiB"),
            |cost| mebibytes(cost.server_peak),
            memory,
        ));
    }
    metrics
}
