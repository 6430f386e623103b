//! Every Rust file opens with `//!`: what it owns, what it never does. Judges that the line is there and says
//! something; whether it says the right thing is for the reader.

use super::finding::Finding;
use crate::workspace::Tree;

/// Reports files that do not open with a sentence about themselves.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.with_extension(&["rs"])
        .filter(|(_, text)| !opens_well(text))
        .map(|(path, _)| Finding::new(path, 1, "opening", "the file does not open with `//!` and a sentence"))
        .collect()
}

fn opens_well(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("//!").is_some_and(|sentence| !sentence.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rust_file_says_first_what_it_is() {
        #[track_caller]
        fn check_text(text: &str, fine: bool) {
            assert_eq!(check(&Tree::of(&[("a.rs", text), ("a.md", "x\n")])).is_empty(), fine);
        }
        check_text("//! Byte numbers.\n", true);
        check_text("//!\n", false);
        check_text("", false);
        check_text("\n//! Too late.\n", false);
        check_text("/// An item.\nfn a() {}\n", false);
        check_text("#![allow(x)]\n//! Too late.\n", false);
    }
}
