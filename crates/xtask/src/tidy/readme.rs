//! README.md and README.zh-CN.md are the same page in two languages: the same outline, the same commands.
//!
//! Compares heading levels and fenced blocks; whether the words agree is for whoever reads both.

use super::finding::Finding;
use crate::workspace::Tree;

const RULE: &str = "readme";
const ENGLISH: &str = "README.md";
const CHINESE: &str = "README.zh-CN.md";

/// Reports the first heading and the first fenced block in which the two pages differ.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    match (tree.text(ENGLISH), tree.text(CHINESE)) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec![Finding::new(CHINESE, 1, RULE, format!("missing, while {ENGLISH} exists"))],
        (None, Some(_)) => vec![Finding::new(ENGLISH, 1, RULE, format!("missing, while {CHINESE} exists"))],
        (Some(english), Some(chinese)) => {
            let (english, chinese) = (Outline::parse(english), Outline::parse(chinese));
            let headings = first_difference(&english.headings, &chinese.headings, "heading level");
            let fences = first_difference(&english.fences, &chinese.fences, "fenced block");
            headings.into_iter().chain(fences).collect()
        }
    }
}

/// What the two pages must have in common, each with its line.
#[derive(Debug, Default)]
struct Outline {
    /// The level of each heading.
    headings: Vec<(usize, usize)>,
    /// The opening line and the content of each fenced block.
    fences: Vec<(usize, String)>,
}

impl Outline {
    /// Reads headings of the `#` form, and fences of backticks and of tildes.
    fn parse(page: &str) -> Self {
        let mut outline = Self::default();
        let mut open: Option<(usize, &str, String)> = None;
        for (at, line) in page.lines().enumerate() {
            let mark = fence_mark(line);
            open = match open {
                Some((start, fence, block)) if closes(line, mark, fence) => {
                    outline.fences.push((start, block));
                    None
                }
                Some((start, fence, block)) => Some((start, fence, format!("{block}\n{line}"))),
                None if !mark.is_empty() => Some((at + 1, mark, line.to_owned())),
                None => {
                    outline.headings.extend(heading_level(line).map(|level| (at + 1, level)));
                    None
                }
            };
        }
        // Markdown closes an open fence at the end of the page.
        outline.fences.extend(open.map(|(start, _, block)| (start, block)));
        outline
    }
}

/// Returns the run of at least three backticks or tildes that a line begins with, else nothing.
fn fence_mark(line: &str) -> &str {
    let line = line.trim_start();
    let first = line.chars().next().unwrap_or(' ');
    let run = &line[..line.len() - line.trim_start_matches(first).len()];
    if matches!(first, '`' | '~') && run.len() >= 3 { run } else { "" }
}

/// Tells whether a line ends the block that `fence` opened: the same mark, at least as long, nothing behind.
fn closes(line: &str, mark: &str, fence: &str) -> bool {
    mark.starts_with(fence) && line.trim() == mark
}

/// Returns the level of a heading: one to six `#` and a blank.
fn heading_level(line: &str) -> Option<usize> {
    let level = line.len() - line.trim_start_matches('#').len();
    let behind = &line[level..];
    ((1..=6).contains(&level) && (behind.is_empty() || behind.starts_with(' '))).then_some(level)
}

/// Reports the first place, in the Chinese page, at which the two lists part.
fn first_difference<T: PartialEq>(
    english: &[(usize, T)],
    chinese: &[(usize, T)],
    what: &str,
) -> Option<Finding> {
    let same = english.iter().zip(chinese).take_while(|(ours, theirs)| ours.1 == theirs.1).count();
    let finding = |path, line, message: String| Some(Finding::new(path, line, RULE, message));
    match (english.get(same), chinese.get(same)) {
        (None, None) => None,
        (Some((line, _)), None) => {
            finding(ENGLISH, *line, format!("{what} {} has no counterpart in {CHINESE}", same + 1))
        }
        (None, Some((line, _))) => {
            finding(CHINESE, *line, format!("{what} {} has no counterpart in {ENGLISH}", same + 1))
        }
        (Some((ours, _)), Some((theirs, _))) => {
            finding(CHINESE, *theirs, format!("{what} {} differs from {ENGLISH}:{ours}", same + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_pages(english: &str, chinese: &str, places: &[(&str, usize)]) {
        let findings = check(&Tree::of(&[(ENGLISH, english), (CHINESE, chinese)]));
        assert_eq!(findings.iter().map(Finding::place).collect::<Vec<_>>(), places, "{findings:?}");
    }

    #[test]
    fn the_outlines_agree() {
        check_pages("# a\n\n## b\n", "# 甲\n## 乙\n", &[]);
        check_pages("# a\n## b\n", "# 甲\n### 乙\n", &[(CHINESE, 2)]);
        check_pages("# a\n## b\n", "# 甲\n", &[(ENGLISH, 2)]);
        check_pages("# a\n", "# 甲\n\n## 乙\n", &[(CHINESE, 3)]);
        check_pages("#a is no heading\n", "#甲\n", &[]);
    }

    #[test]
    fn the_commands_agree() {
        check_pages("```sh\nput a\n```\n", "字\n```sh\nput a\n```\n", &[]);
        check_pages("```sh\nput a\n```\n", "```sh\nput b\n```\n", &[(CHINESE, 1)]);
        check_pages("```sh\nput a\n```\n", "```\nput a\n```\n", &[(CHINESE, 1)]);
        check_pages("```\na\n```\n\n```\nb\n```\n", "```\na\n```\n", &[(ENGLISH, 5)]);
        check_pages("~~~\na\n", "~~~\nb\n", &[(CHINESE, 1)]);
    }

    #[test]
    fn a_comment_inside_a_block_is_no_heading() {
        check_pages("```sh\n# a\n```\n", "# 甲\n```sh\n# a\n```\n", &[(CHINESE, 1)]);
        check_pages("````\n```\n# a\n````\n## b\n", "````\n```\n# a\n````\n## 乙\n", &[]);
    }

    #[test]
    fn neither_page_exists_alone() {
        assert!(check(&Tree::default()).is_empty());
        assert_eq!(check(&Tree::of(&[(ENGLISH, "# a\n")])).len(), 1);
        assert_eq!(check(&Tree::of(&[(CHINESE, "# a\n")])).len(), 1);
    }
}
