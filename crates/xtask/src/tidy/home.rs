//! Paths into somebody's home directory: they mean nothing on any other machine, and tell who wrote them.

use super::finding::Finding;
use crate::workspace::Tree;

/// Where systems keep home directories.
const HOMES: &[&str] = &["/home/", "/Users/"];

/// Reports every line of a text file that names a place in a home directory.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (at, line) in text.lines().enumerate() {
            if let Some(home) = HOMES.iter().find(|home| names_a_home(line, home)) {
                let message = format!("a path below `{home}` belongs to one machine");
                findings.push(Finding::new(path, at + 1, "home-path", message));
            }
        }
    }
    findings
}

/// Tells whether the line has the absolute path `home` with a name and more behind it.
fn names_a_home(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let (before, behind) = (&line[..at], &line[at + home.len()..]);
        // Behind a name or a closing brace it is the middle of a longer path, such as a URL's.
        let absolute = !before.ends_with(|last: char| last.is_alphanumeric() || "._-~})]>*".contains(last));
        let name = behind.split('/').next().unwrap_or_default();
        let named = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
        absolute && named && behind.len() > name.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_reported() {
        #[track_caller]
        fn check_line(line: &str, findings: usize) {
            let text = line.replace('~', "home").replace('^', "Users");
            assert_eq!(check(&Tree::of(&[("notes", &text)])).len(), findings, "{text}");
        }
        check_line("read /~/ada/file", 1);
        check_line("\"/^/ada.l/Library/x\"", 1);
        check_line("path=/~/a-b/", 1);
        check_line("the folder /~/ holds the homes", 0);
        check_line("/~/<name>/", 0);
        check_line("https://nas.example/~/films/", 0);
        check_line("{base}/^/ada/x", 0);
        check_line("/srv/~/ada/", 0);
    }
}
