//! `cargo xtask ci`: formatting, lints, the house rules, the dependency rules and the documentation build, in
//! this order, up to the first that fails. The tests are not here: `./test.sh` runs them.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use crate::tidy;

/// One thing that must hold.
struct Step {
    name: &'static str,
    check: Check,
}

/// How a step is checked.
enum Check {
    /// A cargo command, with variables of its environment.
    Cargo { arguments: &'static [&'static str], environment: &'static [(&'static str, &'static str)] },
    /// The house rules.
    Tidy,
    /// The dependency rules; the program for it is installed if it is missing.
    Deny,
}

const STEPS: &[Step] = &[
    Step {
        name: "formatting",
        check: Check::Cargo { arguments: &["fmt", "--all", "--check"], environment: &[] },
    },
    Step {
        name: "lints",
        check: Check::Cargo {
            arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
            environment: &[],
        },
    },
    Step { name: "tidy", check: Check::Tidy },
    Step { name: "dependencies", check: Check::Deny },
    Step {
        name: "documentation",
        check: Check::Cargo {
            arguments: &["doc", "--workspace", "--no-deps", "--locked"],
            environment: &[("RUSTDOCFLAGS", "-Dwarnings")],
        },
    },
];

/// Runs the steps and says how each went; the exit code tells whether all passed.
pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    for step in STEPS {
        println!("==> {}", step.name);
        let start = Instant::now();
        let passed = step.check.passes(root).with_context(|| format!("ci: {} could not run", step.name))?;
        let seconds = start.elapsed().as_secs_f64();
        if !passed {
            println!("ci: FAILED at {} after {seconds:.1} s; the steps behind it did not run", step.name);
            return Ok(ExitCode::FAILURE);
        }
        println!("    {} passed in {seconds:.1} s", step.name);
    }
    println!("ci: all {} steps passed in {:.1} s", STEPS.len(), begin.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

impl Check {
    /// Runs the check; false means that it found something and said what.
    fn passes(&self, root: &Path) -> anyhow::Result<bool> {
        match self {
            Self::Cargo { arguments, environment } => {
                succeeds(cargo(root, arguments).envs(environment.to_vec()))
            }
            Self::Tidy => Ok(tidy::run(root)? == ExitCode::SUCCESS),
            Self::Deny => {
                install_deny(root)?;
                // Duplicate versions are warnings; the table of them is for whoever runs it by hand.
                succeeds(&mut cargo(
                    root,
                    &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
                ))
            }
        }
    }
}

/// Makes `cargo deny` available: a debug build, because it runs for a second and builds in one.
fn install_deny(root: &Path) -> anyhow::Result<()> {
    let present = cargo(root, &["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if present.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("    cargo-deny is missing: installing it (about a minute)");
    let installed = succeeds(&mut cargo(root, &["install", "cargo-deny", "--locked", "--debug"]))?;
    anyhow::ensure!(installed, "cargo-deny could not be installed");
    Ok(())
}

/// Prepares a cargo command in the workspace, with the cargo that runs this program.
fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("{command:?} could not be started"))?;
    Ok(status.success())
}
