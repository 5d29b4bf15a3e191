//! What commands print: lines and tables for people, one JSON document for programs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::Write as _;

/// Form of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Lines and tables for people.
    #[default]
    Table,
    /// One JSON document on standard output; progress goes to standard error.
    Json,
}

/// Where a command writes. A closed pipe is no error: whoever read has seen enough.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Output in `format`.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// One line of progress or of a result for people.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        _ = match self.format {
            Format::Table => writeln!(std::io::stdout().lock(), "{text}"),
            Format::Json => writeln!(std::io::stderr().lock(), "{text}"),
        };
    }

    /// A result: the table for people or the document for programs.
    pub fn result(&self, document: &impl Serialize, tables: &[Table]) {
        match self.format {
            Format::Table => {
                for table in tables {
                    self.line(table.to_string());
                }
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(document).expect("plain structs");
                _ = writeln!(std::io::stdout().lock(), "{text}");
            }
        }
    }
}

/// A table with this header; columns after the first are numbers.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
