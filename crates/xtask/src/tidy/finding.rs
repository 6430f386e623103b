//! What a rule reports: a place, the rule, and a sentence. Owns the shape of the line that is printed.

use std::fmt;

/// One breach of one rule. Sorts by place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    /// Makes a finding; lines count from 1.
    pub(crate) fn new(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }

    /// Returns the path and line, for the tests of the rules.
    #[cfg(test)]
    pub(crate) fn place(&self) -> (&str, usize) {
        (&self.path, self.line)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message } = self;
        write!(f, "{path}:{line}: {rule}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_editors_understand() {
        let finding = Finding::new("src/a.rs", 7, "opening", "says nothing");
        assert_eq!(finding.to_string(), "src/a.rs:7: opening: says nothing");
    }
}
