//! A file is one idea; past a certain length it is two. The length of functions is clippy's job.

use super::finding::Finding;
use crate::workspace::Tree;

/// The longest Rust file that is still read in one go.
const LINES_MAX: usize = 900;

/// Reports files that are too long; the line is the first one too many.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.with_extension(&["rs"])
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            let message = format!("{lines} lines; at most {LINES_MAX}: split it by idea");
            (lines > LINES_MAX).then(|| Finding::new(path, LINES_MAX + 1, "length", message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_reported() {
        #[track_caller]
        fn check_lines(lines: usize, findings: usize) {
            assert_eq!(check(&Tree::of(&[("a.rs", &"\n".repeat(lines))])).len(), findings);
        }
        check_lines(0, 0);
        check_lines(LINES_MAX, 0);
        check_lines(LINES_MAX + 1, 1);
    }
}
