//! Tables in Markdown under a heading each, written and read back. Knows nothing of what is in them.

use std::fmt::{self, Display, Formatter};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) header: Vec<String>,
    /// The first cell of each names it.
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// All tables of a text.
    pub(super) fn read(text: &str) -> Vec<Self> {
        let mut tables: Vec<Self> = Vec::new();
        let mut title = "";
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                title = heading;
            } else if let Some(row) = line.strip_prefix("| ") {
                let cells = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
                match tables.last_mut() {
                    Some(table) if table.title == title => table.rows.push(cells),
                    _ => tables.push(Self { title: title.to_owned(), header: cells, rows: Vec::new() }),
                }
            }
        }
        tables
    }

    pub(super) fn has_row(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row[0] == name)
    }

    /// The number in the row of this name.
    pub(super) fn number(&self, name: &str, column: &str) -> Option<u64> {
        let column = self.header.iter().position(|title| title == column)?;
        self.rows.iter().find(|row| row[0] == name)?.get(column)?.parse().ok()
    }
}

impl Display for Table {
    /// Names stand to the left, numbers to the right.
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let lines = || [&self.header].into_iter().chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].len()).max().unwrap_or_default();
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("| {cell:<width$} "),
                _ => format!("| {cell:>width$} "),
            });
            cells.collect::<String>() + "|\n"
        };
        let rules = widths.iter().enumerate().map(|(column, width)| match column {
            0 => format!("|{}", "-".repeat(width + 2)),
            _ => format!("|{}:", "-".repeat(width + 1)),
        });
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        write!(f, "## {}\n\n{}{}|\n{rows}", self.title, line(&self.header), rules.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let table = Table {
            title: "navi31".to_owned(),
            header: words("kernel VGPRs loads"),
            rows: vec![words("matvec 48 6x128"), vec!["embed".to_owned(), "8".to_owned(), String::new()]],
        };
        assert_eq!(
            table.to_string(),
            "## navi31\n\n\
             | kernel | VGPRs | loads |\n\
             |--------|------:|------:|\n\
             | matvec |    48 | 6x128 |\n\
             | embed  |     8 |       |\n"
        );
        let read = Table::read(&format!("# All\n\nWords.\n\n{table}\n\nMore words.\n"));
        assert_eq!(read, [table]);
        assert_eq!(read[0].number("matvec", "VGPRs"), Some(48));
    }
}
