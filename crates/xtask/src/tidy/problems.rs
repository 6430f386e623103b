//! The table of problems in the documentation is the one in the code.

use super::finding::Finding;
use crate::docs::{PROBLEMS, PROTOCOL};
use crate::workspace::Tree;

const RULE: &str = "problems";

/// Reports a protocol page whose table of problems is missing or differs from the code.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    compare(tree, &hapax_proto::problem::table_markdown()).into_iter().collect()
}

fn compare(tree: &Tree, table: &str) -> Option<Finding> {
    let Some(page) = tree.text(PROTOCOL) else {
        return Some(Finding::new(PROTOCOL, 1, RULE, "the page is missing"));
    };
    let (before, section, _) = match PROBLEMS.split(page) {
        Ok(parts) => parts,
        Err(reason) => return Some(Finding::new(PROTOCOL, 1, RULE, reason.to_string())),
    };
    if section == table {
        return None;
    }
    let same = section.lines().zip(table.lines()).take_while(|(found, wanted)| found == wanted).count();
    let line = before.lines().count() + same + 1;
    Some(Finding::new(PROTOCOL, line, RULE, "differs from the table in the code; run `cargo xtask docs`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_page(page: &str, line: Option<usize>) {
        let found = compare(&Tree::of(&[(PROTOCOL, page)]), "| a |\n| b |\n");
        assert_eq!(found.map(|finding| finding.place().1), line);
    }

    #[test]
    fn the_page_holds_exactly_the_table() {
        let page =
            |section: &str| format!("# P\n\n<!-- problems:begin -->\n{section}<!-- problems:end -->\n");
        check_page(&page("| a |\n| b |\n"), None);
        check_page(&page("| a |\n| c |\n"), Some(5));
        check_page(&page("| a |\n"), Some(5));
        check_page(&page("| a |\n| b |\n\n"), Some(6));
        check_page(&page(""), Some(4));
        check_page("# P\n", Some(1));
    }

    #[test]
    fn a_missing_page_is_reported() {
        assert!(compare(&Tree::default(), "").is_some());
    }
}
