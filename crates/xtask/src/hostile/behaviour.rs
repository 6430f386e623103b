//! What the hostile server can do wrong: one behaviour per path. Owns the list, and for each what an honest reader
//! could have; the answers themselves are in the modules by theme.

/// Lengths, framing and what a body is worth.
mod bodies;

/// Ranges that are ignored, misplaced or misnamed.
mod ranges;

/// Files that change, and validators that tell it or not.
mod changes;

/// Statuses, redirects and pages that are not the file.
mod refusals;

/// Names that nobody should believe.
mod names;

/// Digests, right and wrong.
mod digests;

/// Lines that stall, break and refuse.
mod lines;

use super::ask::Ask;
use super::reply::Reply;
use super::version::{FIRST, Version};

/// What an honest reader could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Honest {
    /// The file, whole and of one version.
    File,
    /// Nothing: it must say so, with one of these exit codes of hapax.
    Nothing(&'static [i32]),
    /// Either: the file can be had with effort, and refusing it is honest too.
    Either,
    /// Nobody can know: what arrives cannot be told from the truth. If hapax takes it, it says "unverified".
    Unprovable,
    /// Nobody can know, and nothing even looks odd.
    Unknowable,
}

/// One way to be wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// Its name, which is its path.
    pub(crate) name: &'static str,
    /// What the server does, for people.
    pub(crate) says: &'static str,
    /// What it answers.
    pub(crate) answer: fn(&Ask) -> Reply,
    /// What can be had.
    pub(crate) honest: Honest,
    /// Which versions are right, each as a whole.
    pub(crate) versions: &'static [Version],
    /// Whether the line is cut once, half way through the file.
    pub(crate) breaks: bool,
    /// The most requests of one visit, of both commands together.
    pub(crate) requests_max: u32,
    /// What is special about it.
    pub(crate) special: Special,
}

/// What else a behaviour needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// Nothing.
    None,
    /// The client is told the SHA-256 of the first version beforehand.
    Digest,
    /// The name of the file comes from the server.
    Names,
    /// There is a port that refuses connections for a while.
    Late,
}

impl Behaviour {
    /// Makes a behaviour under which the first version can be had.
    const fn new(name: &'static str, says: &'static str, answer: fn(&Ask) -> Reply) -> Self {
        Self {
            name,
            says,
            answer,
            honest: Honest::File,
            versions: &[FIRST],
            breaks: false,
            requests_max: 24,
            special: Special::None,
        }
    }

    /// Cuts the line once, half way through the file.
    const fn breaks(self) -> Self {
        Self { breaks: true, ..self }
    }

    /// Has other versions that are right.
    const fn versions(self, versions: &'static [Version]) -> Self {
        Self { versions, ..self }
    }

    /// Has something else that can be had.
    const fn honest(self, honest: Honest) -> Self {
        Self { honest, ..self }
    }

    /// Allows another number of requests.
    const fn requests(self, requests_max: u32) -> Self {
        Self { requests_max, ..self }
    }

    /// Tells the client the digest.
    const fn digest(self) -> Self {
        Self { special: Special::Digest, ..self }
    }

    /// Lets the server name the file.
    const fn names(self) -> Self {
        Self { special: Special::Names, ..self }
    }

    /// Has a port that refuses connections for a while.
    const fn late(self) -> Self {
        Self { special: Special::Late, ..self }
    }
}

/// Returns every behaviour, in the order of the table.
pub(crate) fn all() -> Vec<&'static Behaviour> {
    [bodies::LIST, ranges::LIST, changes::LIST, digests::LIST, refusals::LIST, names::LIST, lines::LIST]
        .into_iter()
        .flatten()
        .collect()
}

/// Finds a behaviour by its name.
pub(crate) fn find(name: &str) -> Option<&'static Behaviour> {
    all().into_iter().find(|behaviour| behaviour.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_paths_and_stand_once() {
        let list = all();
        let names = list.iter().map(|behaviour| behaviour.name).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), list.len());
        assert!(names.iter().all(|name| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        }));
    }

    #[test]
    fn sentences_fit_into_a_table() {
        assert!(
            all().iter().all(|behaviour| !behaviour.says.contains('|') && !behaviour.says.ends_with('.'))
        );
    }
}
