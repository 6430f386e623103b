//! The house rules that neither rustc nor clippy knows, each in one small file.
//!
//! Owns which rules run and how findings are printed. A rule reads values and returns findings: it neither
//! prints nor changes a file. There is no list of exceptions; whoever needs one argues with the rule first.

/// What a rule reports.
mod finding;

/// The walls between the crates.
mod crates;

/// The order of the modules inside a crate.
mod order;

/// What the first line of a source file is.
mod opening;

/// The two README files say the same.
mod readme;

/// The table of problems in the documentation.
mod problems;

/// How long a file may be.
mod length;

/// White space.
mod whitespace;

/// Paths of somebody's machine.
mod home;

use std::path::Path;
use std::process::ExitCode;

use crate::workspace::{self, Tree};

pub(crate) use finding::Finding;

/// Checks everything and prints one line per finding; the exit code tells whether there was none.
pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every rule over the workspace; the findings come sorted by place.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = crates::check(&crates::members(&workspace::metadata(root)?, root), &tree);
    let rules = [
        order::check,
        opening::check,
        readme::check,
        problems::check,
        length::check,
        whitespace::check,
        home::check,
    ];
    findings.extend(rules.iter().flat_map(|rule| rule(&tree)));
    findings.sort();
    Ok(findings)
}
