//! `cargo xtask fuzz`: each parser and decoder is given arbitrary bytes for a while. Owns the building of the targets
//! and the order in which they run; what is done with the bytes is in `fuzz/src`, and a test here does it with every
//! file of the corpus.
//!
//! The targets are those of cargo-fuzz without a sanitizer, built by the stable compiler: our crates have no unsafe
//! code for one to look at. A finding is an input that panics, hangs or grows; it lies in `fuzz/artifacts`, and
//! belongs into the corpus once it is fixed.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args as Arguments;

/// What makes the compiler tell the fuzzer where the code went: what cargo-fuzz passes too.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// How long one input may take, in seconds.
const SECONDS_PER_INPUT: u32 = 5;

/// The most memory that a target may take, in MiB.
const MEMORY_MAX: u32 = 512;

/// What to run for how long.
#[derive(Debug, Arguments)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// Run only this target; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Builds the targets and runs one after the other; the exit code tells whether none found anything.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let fuzz = root.join("fuzz");
    let host = host()?;
    println!("building the fuzz targets");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--locked", "--bins", "--target", &host])
        .current_dir(&fuzz)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .stdin(Stdio::null())
        .status()
        .context("cargo could not be started")?;
    ensure!(built.success(), "the fuzz targets could not be built; they need a C++ compiler");
    let mut findings = 0;
    for name in targets(&fuzz)?.iter().filter(|name| args.only.is_empty() || args.only.contains(name)) {
        let start = Instant::now();
        let passed = run_target(&fuzz, &host, name, args.seconds)?;
        findings += u32::from(!passed);
        let word = if passed { "found nothing" } else { "FOUND something" };
        println!("{name}: {word} in {:.0} s", start.elapsed().as_secs_f64());
    }
    println!("fuzz: {findings} targets found something");
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a target from its corpus on; what it learns stays in a folder that git does not see.
fn run_target(fuzz: &Path, host: &str, name: &str, seconds: u32) -> anyhow::Result<bool> {
    let (learned, artifacts) = (fuzz.join("target/corpus").join(name), fuzz.join("artifacts").join(name));
    std::fs::create_dir_all(&learned)?;
    std::fs::create_dir_all(&artifacts)?;
    let log = std::fs::File::create(fuzz.join("target").join(format!("{name}.log")))?;
    let status = Command::new(fuzz.join("target").join(host).join("release").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([&learned, &fuzz.join("corpus").join(name)])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("the target {name} could not be started"))?;
    if !status.success() {
        println!("{name}: see fuzz/target/{name}.log and fuzz/artifacts/{name}");
    }
    Ok(status.success())
}

/// Returns the names of the targets: those of their files.
fn targets(fuzz: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(fuzz.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Returns the triple of this machine: with one named, build scripts are not instrumented.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc could not be started")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for which machine it compiles")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parser bug leaves its input in the corpus: no file of it does harm any more.
    #[test]
    fn the_corpus_is_harmless() {
        let fuzz = crate::workspace::root().unwrap().join("fuzz");
        for (name, target) in hapax_fuzz::TARGETS {
            let mut files = 0;
            for entry in std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let outcome = std::panic::catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "{} does harm", path.display());
                files += 1;
            }
            assert!(files > 0, "{name} has no corpus");
        }
    }

    #[test]
    fn every_function_is_a_target() {
        let fuzz = crate::workspace::root().unwrap().join("fuzz");
        let names = hapax_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(targets(&fuzz).unwrap(), names);
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for name in names {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
    }
}
