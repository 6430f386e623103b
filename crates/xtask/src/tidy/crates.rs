//! A crate exists only where its border forbids something: which of our crates may use which, and which of
//! other people's crates stay outside.
//!
//! Judges direct, normal dependencies. Tests may use what they like, and what a dependency brings along is
//! the business of `deny.toml`.

use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata};

use super::finding::Finding;
use crate::workspace::Tree;

const RULE: &str = "crate-graph";

/// What one crate may and must not use.
struct Border {
    name: &'static str,
    /// Our own crates that it may use.
    ours: &'static [&'static str],
    /// Crates that it must not use, by reason.
    forbidden: &'static [(&'static str, &'static [&'static str])],
}

const TERMINAL: &[&str] =
    &["anstream", "anstyle", "clap", "clap_complete", "clap_mangen", "console", "crossterm", "indicatif"];
const HTTP_SERVERS: &[&str] = &["axum", "tower-http", "warp", "actix-web", "dav-server"];
const HTTP_CLIENTS: &[&str] = &["reqwest", "ureq", "curl", "isahc"];
const HTTP_TYPES: &[&str] = &["http", "http-body", "http-body-util", "hyper", "hyper-util", "tower"];
const OPAQUE_ERRORS: &[&str] = &["anyhow", "eyre"];

/// The whole graph. A new crate gets a row, and the row says what its border is for.
const BORDERS: &[Border] = &[
    Border {
        name: "hapax-proto",
        ours: &[],
        forbidden: &[
            ("proto does no I/O", &["rusqlite", "rustix", "tempfile", "libc", "nix", "walkdir", "socket2"]),
            (
                "proto is not async",
                &["tokio", "tokio-util", "futures", "futures-util", "async-trait", "bytes"],
            ),
            ("proto reads no clock", &["chrono", "time", "jiff"]),
            ("proto draws no random numbers", &["getrandom", "rand", "uuid", "fastrand"]),
            (
                "of HTTP, proto knows only the types of `http`",
                &["http-body", "http-body-util", "hyper", "hyper-util", "tower"],
            ),
            ("proto serves nothing", HTTP_SERVERS),
            ("proto sends nothing", HTTP_CLIENTS),
            ("proto speaks to no terminal", TERMINAL),
            ("proto logs nothing: its callers do", &["tracing", "log", "metrics"]),
            ("a library's errors are enums", OPAQUE_ERRORS),
        ],
    },
    Border {
        name: "hapax-store",
        ours: &["hapax-proto"],
        forbidden: &[
            ("the store knows nothing of HTTP", HTTP_TYPES),
            ("the store knows nothing of HTTP", HTTP_SERVERS),
            ("the store knows nothing of HTTP", HTTP_CLIENTS),
            ("the store speaks to no terminal", TERMINAL),
            ("a library's errors are enums", OPAQUE_ERRORS),
        ],
    },
    Border {
        name: "hapax-client",
        ours: &["hapax-proto"],
        forbidden: &[
            ("the client is a library: the binary speaks to terminals", TERMINAL),
            ("the client serves nothing", HTTP_SERVERS),
            ("a library's errors are enums", OPAQUE_ERRORS),
        ],
    },
    Border {
        name: "hapax-server",
        ours: &["hapax-proto", "hapax-store"],
        forbidden: &[
            ("the server sends no requests", HTTP_CLIENTS),
            ("the server is a library: the binary speaks to terminals", TERMINAL),
            ("only the store opens the catalog", &["rusqlite"]),
            ("a library's errors are enums", OPAQUE_ERRORS),
        ],
    },
    Border {
        name: "hapax",
        ours: &["hapax-client", "hapax-proto", "hapax-server"],
        forbidden: &[
            ("the binary reaches the catalog through `hapax_server::offline`", &["rusqlite"]),
            ("the binary sends requests through `hapax_client`", HTTP_CLIENTS),
        ],
    },
    Border {
        name: "xtask",
        ours: &["hapax-client", "hapax-proto", "hapax-server", "hapax-store"],
        forbidden: &[],
    },
];

/// A member of the workspace, as far as this rule looks at it.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    /// Its manifest, relative to the workspace.
    manifest: String,
    /// The names of its direct, normal dependencies.
    uses: Vec<String>,
}

/// Takes the members out of what cargo knows.
pub(crate) fn members(metadata: &Metadata, root: &Path) -> Vec<Member> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let manifest = package.manifest_path.as_std_path();
            Member {
                name: package.name.to_string(),
                manifest: manifest.strip_prefix(root).unwrap_or(manifest).to_string_lossy().into_owned(),
                uses: package
                    .dependencies
                    .iter()
                    .filter(|dependency| dependency.kind == DependencyKind::Normal)
                    .map(|dependency| dependency.name.clone())
                    .collect(),
            }
        })
        .collect()
}

/// Reports every dependency that crosses a border.
pub(crate) fn check(members: &[Member], tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        let Some(border) = BORDERS.iter().find(|border| border.name == member.name) else {
            let message = format!("`{}` has no row in the crate graph of xtask", member.name);
            findings.push(Finding::new(&member.manifest, 1, RULE, message));
            continue;
        };
        for used in &member.uses {
            if let Some(message) = objection(border, used, members) {
                let line = line_of(tree.text(&member.manifest).unwrap_or_default(), used);
                findings.push(Finding::new(&member.manifest, line, RULE, message));
            }
        }
    }
    findings
}

/// Returns why the border does not let `used` in, if it does not.
fn objection(border: &Border, used: &str, members: &[Member]) -> Option<String> {
    if members.iter().any(|member| member.name == used) {
        return (!border.ours.contains(&used)).then(|| {
            format!("`{}` must not use `{used}`; of ours it may use {:?}", border.name, border.ours)
        });
    }
    let (reason, _) = border.forbidden.iter().find(|(_, names)| names.contains(&used))?;
    Some(format!("`{}` must not use `{used}`: {reason}", border.name))
}

/// Returns the line of a manifest that names the dependency, or 1 (a renamed or inherited one).
fn line_of(manifest: &str, dependency: &str) -> usize {
    let names = |line: &str| {
        line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            || line.strip_prefix("[dependencies.").is_some_and(|rest| rest.starts_with(dependency))
    };
    manifest.lines().position(names).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, uses: &[&str]) -> Member {
        let uses = uses.iter().map(|name| (*name).to_owned()).collect();
        Member { name: name.to_owned(), manifest: format!("crates/{name}/Cargo.toml"), uses }
    }

    /// Judges one member among all of ours, and tells how many of its dependencies are refused.
    #[track_caller]
    fn check_uses(name: &str, uses: &[&str], refused: usize) {
        let mut members = BORDERS
            .iter()
            .filter(|border| border.name != name)
            .map(|border| member(border.name, &[]))
            .collect::<Vec<_>>();
        members.push(member(name, uses));
        let findings = check(&members, &Tree::default());
        assert_eq!(findings.len(), refused, "{findings:?}");
    }

    #[test]
    fn our_crates_use_each_other_in_one_direction() {
        check_uses("hapax", &["hapax-server", "hapax-client", "hapax-proto"], 0);
        check_uses("hapax", &["hapax-store"], 1);
        check_uses("hapax-server", &["hapax-store", "hapax-proto"], 0);
        check_uses("hapax-server", &["hapax-client"], 1);
        check_uses("hapax-client", &["hapax-proto"], 0);
        check_uses("hapax-client", &["hapax-store", "hapax-server"], 2);
        check_uses("hapax-store", &["hapax-proto"], 0);
        check_uses("hapax-store", &["hapax-server"], 1);
        check_uses("hapax-proto", &["hapax-store"], 1);
        check_uses("hapax-proto", &["xtask"], 1);
        check_uses("xtask", &["hapax-proto", "hapax-store", "hapax-client", "hapax-server"], 0);
    }

    #[test]
    fn other_peoples_crates_stay_outside_the_borders() {
        check_uses("hapax-proto", &["http", "serde", "blake3"], 0);
        check_uses("hapax-proto", &["tokio", "hyper", "reqwest", "rusqlite", "getrandom", "rustix"], 6);
        check_uses("hapax-store", &["rusqlite", "tokio", "rustix"], 0);
        check_uses("hapax-store", &["http", "hyper", "reqwest", "axum"], 4);
        check_uses("hapax-client", &["reqwest", "rusqlite", "http"], 0);
        check_uses("hapax-client", &["clap", "indicatif", "anstream"], 3);
        check_uses("hapax-server", &["hyper", "tower"], 0);
        check_uses("hapax-server", &["reqwest", "rusqlite", "anyhow"], 3);
        check_uses("hapax", &["clap", "anyhow"], 0);
        check_uses("hapax", &["rusqlite"], 1);
    }

    #[test]
    fn a_crate_without_a_row_is_reported() {
        check_uses("hapax-web", &[], 1);
    }

    #[test]
    fn the_finding_points_at_the_dependency() {
        #[track_caller]
        fn check_line(manifest: &str, line: usize) {
            let members = [member("hapax-proto", &["tokio"])];
            let findings = check(&members, &Tree::of(&[("crates/hapax-proto/Cargo.toml", manifest)]));
            assert_eq!(findings[0].place(), ("crates/hapax-proto/Cargo.toml", line));
        }
        check_line("[dependencies]\ntokio-util = \"1\"\ntokio.workspace = true\n", 3);
        check_line("[dependencies]\ntokio = \"1\"\n", 2);
        check_line("[dependencies.tokio]\nversion = \"1\"\n", 1);
        check_line("[dependencies]\nrenamed = { package = \"tokio\" }\n", 1);
    }

    #[test]
    fn every_crate_of_the_workspace_has_a_row_and_every_row_a_crate() {
        let root = crate::workspace::root().unwrap();
        let mut found = members(&crate::workspace::metadata(&root).unwrap(), &root)
            .into_iter()
            .map(|member| member.name)
            .collect::<Vec<_>>();
        let mut listed = BORDERS.iter().map(|border| border.name.to_owned()).collect::<Vec<_>>();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
    }
}
