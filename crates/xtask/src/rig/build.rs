//! Building the program that campaigns and benchmarks run. Owns the call of cargo and where the result lies.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace;

/// How the program is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests compile it: it is there already when they have run.
    Dev,
    /// Nearly as for a release.
    Bench,
}

impl Profile {
    /// Returns the name for people and for cargo.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Bench => "bench",
        }
    }

    /// Returns the folder below `target` that cargo uses for it.
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            // Cargo keeps what the profiles `bench` and `release` make in one place.
            Self::Bench => "release",
        }
    }
}

/// Builds `hapax` and returns the path of the program.
pub(crate) fn hapax(root: &Path, profile: Profile) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!("building hapax ({} profile)", profile.name());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "hapax",
            "--bin",
            "hapax",
            "--profile",
            profile.name(),
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .context("cargo could not be started")?;
    ensure!(status.success(), "hapax could not be built");
    let target = workspace::metadata(root)?.target_directory;
    let program = target.as_std_path().join(profile.folder()).join("hapax");
    ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}
