//! White space that shows only in diffs: at the ends of lines, tabs, a missing or doubled end of file.
//! Judges the files that people write; what a tool writes is its own business.

use super::finding::Finding;
use crate::workspace::Tree;

const RULE: &str = "whitespace";

/// The files whose lines are judged.
const WRITTEN: &[&str] = &["rs", "md", "toml", "sh", "py", "ts", "css", "html", "svelte", "yml", "yaml"];
/// Those of them in which a tab is a mistake.
const WITHOUT_TABS: &[&str] = &["rs", "md"];

/// Reports blanks at the end of a line, tabs, and files that do not end in exactly one newline.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension(WRITTEN) {
        findings.extend(lines_matching(path, text, "blanks at the end of the line", ends_blank));
        findings.extend(end_of_file(path, text));
    }
    for (path, text) in tree.with_extension(WITHOUT_TABS) {
        findings.extend(lines_matching(path, text, "a tab; use spaces", |line| line.contains('\t')));
    }
    findings
}

/// Tells whether a line ends in white space; a carriage return is some.
fn ends_blank(line: &str) -> bool {
    line.ends_with(char::is_whitespace)
}

fn lines_matching(path: &str, text: &str, message: &str, is_bad: impl Fn(&str) -> bool) -> Vec<Finding> {
    text.split('\n')
        .enumerate()
        .filter(|(_, line)| is_bad(line))
        .map(|(at, _)| Finding::new(path, at + 1, RULE, message))
        .collect()
}

fn end_of_file(path: &str, text: &str) -> Option<Finding> {
    let message = match text {
        "" => return None,
        text if !text.ends_with('\n') => "no newline at the end of the file",
        text if text.ends_with("\n\n") => "an empty line at the end of the file",
        _ => return None,
    };
    Some(Finding::new(path, text.lines().count(), RULE, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(path: &str, text: &str, lines: &[usize]) {
        let findings = check(&Tree::of(&[(path, text)]));
        assert_eq!(findings.iter().map(|finding| finding.place().1).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn lines_end_in_something_visible() {
        check_text("a.rs", "//! a\n\nfn b() {}\n", &[]);
        check_text("a.rs", "//! a \n \nfn b() {}\n", &[1, 2]);
        check_text("a.md", "# a\r\nb\r\n", &[1, 2]);
        check_text("a.toml", "a = 1 \n", &[1]);
        check_text("LICENSE", "as given \n", &[]);
    }

    #[test]
    fn tabs_are_spaces() {
        check_text("a.rs", "//! a\n\tb\n", &[2]);
        check_text("a.md", "a\tb\n", &[1]);
        check_text("a.sh", "\tb\n", &[]);
    }

    #[test]
    fn a_file_ends_in_one_newline() {
        check_text("a.rs", "", &[]);
        check_text("a.rs", "//! a", &[1]);
        check_text("a.rs", "//! a\n\n", &[2]);
    }
}
