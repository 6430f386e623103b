//! The parts of the documentation that are printed: `cargo xtask docs` writes those that come from code, and tidy
//! compares them; `cargo xtask hostile` writes and compares its own.
//!
//! Owns the text between the markers and nothing outside them.

use std::path::Path;

use anyhow::Context as _;

/// The page that holds the table of problems.
pub(crate) const PROTOCOL: &str = "docs/protocol.md";

/// The page that holds the table of downloaders, which the run of the hostile server writes.
pub(crate) const DOWNLOADING: &str = "docs/downloading.md";

/// What stands between two markers of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// The line before it.
    begin: &'static str,
    /// The line after it.
    end: &'static str,
}

/// The table of problems.
pub(crate) const PROBLEMS: Section =
    Section { begin: "<!-- problems:begin -->\n", end: "<!-- problems:end -->" };

/// The table of downloaders.
pub(crate) const HOSTILE: Section =
    Section { begin: "<!-- hostile:begin -->\n", end: "<!-- hostile:end -->" };

/// Rewrites the printed section of the protocol page, in place.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    write(root, PROTOCOL, PROBLEMS, &hapax_proto::problem::table_markdown())
}

/// Rewrites a section of a page, in place.
pub(crate) fn write(root: &Path, page: &str, section: Section, text: &str) -> anyhow::Result<()> {
    let path = root.join(page);
    let old = std::fs::read_to_string(&path).with_context(|| format!("cannot read {page}"))?;
    let fresh = section.rewrite(&old, text).with_context(|| page.to_owned())?;
    if fresh == old {
        println!("{page} is up to date");
    } else {
        std::fs::write(&path, fresh).with_context(|| format!("cannot write {page}"))?;
        println!("{page} rewritten");
    }
    Ok(())
}

/// Why a page has no section to compare or replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSection {
    /// Neither marker is there.
    Absent,
    /// One marker is missing, stands twice, or they stand in the wrong order.
    Broken,
}

impl std::fmt::Display for NoSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "the page has no section between the markers",
            Self::Broken => "the markers must each stand once, in their order",
        })
    }
}

impl std::error::Error for NoSection {}

impl Section {
    /// Splits a page into what stands before the section (marker included), the section, and the rest.
    pub(crate) fn split(self, page: &str) -> Result<(&str, &str, &str), NoSection> {
        let (begins, ends) = (page.matches(self.begin).count(), page.matches(self.end).count());
        match (begins, ends) {
            (0, 0) => return Err(NoSection::Absent),
            (1, 1) => {}
            _ => return Err(NoSection::Broken),
        }
        let start = page.find(self.begin).map_or(0, |at| at + self.begin.len());
        let (before, behind) = page.split_at(start);
        let end = behind.find(self.end).ok_or(NoSection::Broken)?;
        let (section, rest) = behind.split_at(end);
        Ok((before, section, rest))
    }

    /// Puts `text` between the markers; a page without markers gets them at its end.
    fn rewrite(self, page: &str, text: &str) -> Result<String, NoSection> {
        match self.split(page) {
            Ok((before, _, rest)) => Ok(format!("{before}{text}{rest}")),
            Err(NoSection::Absent) => {
                Ok(format!("{}\n\n{}{text}{}\n", page.trim_end(), self.begin, self.end))
            }
            Err(NoSection::Broken) => Err(NoSection::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = PROBLEMS.begin;
    const END: &str = PROBLEMS.end;

    #[test]
    fn only_the_section_changes() {
        #[track_caller]
        fn check(page: &str, expected: Result<&str, NoSection>) {
            assert_eq!(PROBLEMS.rewrite(page, "new\n"), expected.map(str::to_owned));
        }
        let marked = |section: &str| format!("# T\n\n{BEGIN}{section}{END}\n\nrest\n");
        check(&marked("old\nold\n"), Ok(&marked("new\n")));
        check(&marked(""), Ok(&marked("new\n")));
        check(&marked("new\n"), Ok(&marked("new\n")));
        check("# T\n", Ok(&format!("# T\n\n{BEGIN}new\n{END}\n")));
        check(&format!("{BEGIN}x\n"), Err(NoSection::Broken));
        check(&format!("{END}\n{BEGIN}x\n"), Err(NoSection::Broken));
        check(&format!("{BEGIN}{BEGIN}{END}\n"), Err(NoSection::Broken));
    }

    #[test]
    fn what_was_written_is_what_is_compared() {
        let page = PROBLEMS.rewrite("# T\n", "a table\n").unwrap();
        assert_eq!(PROBLEMS.split(&page).unwrap().1, "a table\n");
    }
}
