//! The parts of the documentation that are printed from code: `cargo xtask docs` writes them, tidy compares them.
//!
//! Owns the text between the markers and nothing outside them.

use std::path::Path;

use anyhow::Context as _;

/// The page that holds the table of problems.
pub(crate) const PROTOCOL: &str = "docs/protocol.md";

/// The line before the printed section.
const BEGIN: &str = "<!-- problems:begin -->\n";
/// The line after it.
const END: &str = "<!-- problems:end -->";

/// Rewrites the printed section of the protocol page, in place.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let path = root.join(PROTOCOL);
    let page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {PROTOCOL}"))?;
    let fresh = rewrite(&page, &hapax_proto::problem::table_markdown()).context(PROTOCOL)?;
    if fresh == page {
        println!("{PROTOCOL} is up to date");
    } else {
        std::fs::write(&path, fresh).with_context(|| format!("cannot write {PROTOCOL}"))?;
        println!("{PROTOCOL} rewritten");
    }
    Ok(())
}

/// Why a page has no section to compare or replace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoSection {
    /// Neither marker is there.
    Absent,
    /// One marker is missing, stands twice, or they stand in the wrong order.
    Broken,
}

impl std::fmt::Display for NoSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (begin, end) = (BEGIN.trim_end(), END);
        match self {
            Self::Absent => write!(f, "the page has no section between `{begin}` and `{end}`"),
            Self::Broken => write!(f, "`{begin}` and `{end}` must each stand once, in this order"),
        }
    }
}

impl std::error::Error for NoSection {}

/// Splits a page into what stands before the section (marker included), the section, and the rest.
pub(crate) fn split(page: &str) -> Result<(&str, &str, &str), NoSection> {
    let (begins, ends) = (page.matches(BEGIN).count(), page.matches(END).count());
    match (begins, ends) {
        (0, 0) => return Err(NoSection::Absent),
        (1, 1) => {}
        _ => return Err(NoSection::Broken),
    }
    let start = page.find(BEGIN).map_or(0, |at| at + BEGIN.len());
    let (before, behind) = page.split_at(start);
    let end = behind.find(END).ok_or(NoSection::Broken)?;
    let (section, rest) = behind.split_at(end);
    Ok((before, section, rest))
}

/// Puts `section` between the markers; a page without markers gets them at its end.
fn rewrite(page: &str, section: &str) -> Result<String, NoSection> {
    match split(page) {
        Ok((before, _, rest)) => Ok(format!("{before}{section}{rest}")),
        Err(NoSection::Absent) => Ok(format!("{}\n\n{BEGIN}{section}{END}\n", page.trim_end())),
        Err(NoSection::Broken) => Err(NoSection::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        #[track_caller]
        fn check(page: &str, expected: Result<&str, NoSection>) {
            assert_eq!(rewrite(page, "new\n"), expected.map(str::to_owned));
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
        let page = rewrite("# T\n", "a table\n").unwrap();
        assert_eq!(split(&page).unwrap().1, "a table\n");
    }
}
