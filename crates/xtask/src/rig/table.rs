//! Tables for terminals that are Markdown too. Owns alignment and nothing of what stands in the cells.

use std::fmt;

/// Rows of equal length; the first column is text, the others are numbers or short words.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with the names of its columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row; cells that are missing are empty, and what is too many is dropped.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row = cells.into_iter().map(Into::into).collect::<Vec<_>>();
        row.resize(self.rows[0].len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default().max(3)
        };
        let widths = (0..self.rows[0].len()).map(width).collect::<Vec<_>>();
        for (at, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let line = "-".repeat(width + 1);
                    f.write_str(&if column == 0 { format!("|{line}-") } else { format!("|{line}:") })?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["kind", "runs"]);
        table.row(["kills of the client", "7"]);
        table.row(["cut", "12345"]);
        table.row(["é"]);
        let lines = [
            "| kind                |  runs |",
            "|---------------------|------:|",
            "| kills of the client |     7 |",
            "| cut                 | 12345 |",
            "| é                   |       |",
        ];
        assert_eq!(table.to_string(), lines.map(|line| format!("{line}\n")).concat());
    }
}
