//! `cargo xtask clients`: the tests with clients of others, pinned by their lock files or, with `--latest`, as they are
//! in their registries today. Owns what is installed where; what is tested is in `crates/hapax/tests/it/clients`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

/// The client that runs in Python.
const OF_PYTHON: &str = "tuspy";

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install the newest clients of today into a temporary folder, and run those
    #[arg(long)]
    latest: bool,
}

/// Runs the tests; the exit code tells whether all passed.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if !args.latest {
        // It installs what is pinned.
        return code(Command::new(root.join("test.sh")).arg("clients::"));
    }
    let target = root.join("target");
    std::fs::create_dir_all(&target)?;
    let folder = tempfile::tempdir_in(target)?;
    let pinned = std::fs::read_to_string(root.join("tests/clients/package.json"))?;
    let package: Value = serde_json::from_str(&pinned).context("tests/clients/package.json is no JSON")?;
    std::fs::write(folder.path().join("package.json"), latest(&package)?.to_string())?;
    step("npm", ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder.path())?;
    step("npm", ["ls", "--depth=0"], folder.path())?;
    let environment = folder.path().join("venv");
    step("python3", [OsStr::new("-m"), OsStr::new("venv"), environment.as_os_str()], folder.path())?;
    let python = environment.join("bin/python");
    step(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", OF_PYTHON], root)?;
    step(&python, ["-m", "pip", "list", "--disable-pip-version-check"], root)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Command::new(cargo);
    tests.args(["test", "--package", "hapax", "--test", "it", "--locked", "clients::"]).current_dir(root);
    code(tests.env("HAPAX_TEST_CLIENTS", folder.path()).env("HAPAX_TEST_PYTHON", python))
}

/// Returns the package with the newest version of everything that it depends on.
fn latest(package: &Value) -> anyhow::Result<Value> {
    let pinned = package["dependencies"].as_object().context("the package depends on nothing")?;
    let newest: Map<_, _> =
        pinned.iter().map(|(name, spec)| (name.clone(), newest(spec.as_str().unwrap_or_default()))).collect();
    Ok(json!({"private": true, "type": "module", "dependencies": newest}))
}

/// Returns what asks for the newest of what a version is of. Under another name there is one per major version: the
/// newest of it, or whatever came after a version that was not published for everybody yet.
fn newest(spec: &str) -> Value {
    let Some((name, version)) = spec.strip_prefix("npm:").and_then(|spec| spec.rsplit_once('@')) else {
        return json!("*");
    };
    let major = version.split('.').next().unwrap_or(version);
    if version.contains('-') {
        json!(format!("npm:{name}@>={major}.0.0-0"))
    } else {
        json!(format!("npm:{name}@{major}"))
    }
}

fn step(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    folder: &Path,
) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    ensure!(code(&mut command)? == ExitCode::SUCCESS, "{command:?} failed");
    Ok(())
}

fn code(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("{} cannot be run", command.get_program().display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_asked_for() {
        #[track_caller]
        fn check(spec: &str, expected: &str) {
            assert_eq!(newest(spec), expected);
        }
        check("6.3.1", "*");
        check("npm:tus-js-client@4.3.1", "npm:tus-js-client@4");
        check("npm:tus-js-client@5.0.0-pre2", "npm:tus-js-client@>=5.0.0-0");
        check("npm:@uppy/tus@6.0.0", "npm:@uppy/tus@6");
    }
}
