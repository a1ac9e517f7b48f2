//! Tables, for terminals or in Markdown, and lines below them.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, TableStyle, presets};

use crate::cli::out;

/// The format of the results.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns.
    Table,
    /// Markdown.
    Md,
    /// A line for each measurement, with the run's own fields in each.
    Csv,
    /// One JSON object.
    Json,
}

/// Rows of cells under a header.
pub(super) struct Table {
    pub(super) header: Vec<&'static str>,
    /// Leading columns that hold names; the others hold numbers.
    pub(super) n_names: usize,
    pub(super) rows: Vec<Vec<String>>,
}

/// Columns with a line under each header, for terminals.
const COLUMNS: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('-').junction(' '))
    .content_lines(ContentLineStyle::none().junction(' '));

impl Table {
    fn styled(&self, style: TableStyle) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(style).set_header(&self.header).add_rows(&self.rows);
        for column in table.column_iter_mut().skip(self.n_names) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn columns(&self) -> String {
        let mut table = self.styled(COLUMNS);
        table.column_iter_mut().for_each(|column| _ = column.set_padding((0, 1)));
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// A column of numbers has a colon at the right end of its rule.
    fn markdown(&self) -> String {
        let mut lines: Vec<String> = self.styled(presets::ASCII_MARKDOWN).lines().collect();
        let rule = lines[1].trim_matches('|').split('|').enumerate();
        let rule = rule.map(|(i, rule)| if i < self.n_names { rule.to_owned() } else { format!("{}:", &rule[1..]) });
        lines[1] = format!("|{}|", rule.collect::<Vec<_>>().join("|"));
        lines.into_iter().map(|line| line + "\n").collect()
    }

    pub(super) fn print(&self, format: Format) -> std::io::Result<()> {
        let text = if format == Format::Md { self.markdown() } else { self.columns() };
        write!(out(), "{text}")
    }
}

/// Lines below a table.
pub(super) fn print_lines(lines: &[String], format: Format) -> std::io::Result<()> {
    let mut out = out();
    if lines.is_empty() {
        return Ok(());
    }
    // In Markdown, a line directly after a table belongs to it, and lines without bullets flow together.
    let bullet = if format == Format::Md { "- " } else { "" };
    let lines: Vec<_> = lines.iter().map(|line| format!("{bullet}{line}\n")).collect();
    write!(out, "\n{}", lines.concat())
}
