//! What commands print: lines and tables for people, documents for programs.

use baton_client::Status;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// Form of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Lines and tables for people.
    #[default]
    Table,
    /// One JSON document on standard output (one a line where results come one by one); progress goes to standard
    /// error.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Where a command writes. A closed pipe is no error: whoever read has seen enough.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Output in `format`; in colour on a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            colour: format == Format::Table && !forbidden && std::io::stdout().is_terminal(),
        }
    }

    /// Whether a person reads the result.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Whether a spinner or bar may be drawn on standard error.
    #[must_use]
    pub fn may_draw(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// One line of progress or of a result for people.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        _ = match self.format {
            Format::Table => writeln!(std::io::stdout().lock(), "{text}"),
            Format::Json | Format::Yaml => writeln!(std::io::stderr().lock(), "{text}"),
        };
    }

    /// A result: the table for people or the document for programs.
    pub fn result(&self, document: &impl Serialize, tables: &[Table]) {
        match self.format {
            Format::Table => {
                for table in tables {
                    self.line(self.paint(table).trim_fmt());
                }
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(document).expect("plain structs");
                _ = writeln!(std::io::stdout().lock(), "{text}");
            }
            Format::Yaml => self.yaml(document),
        }
    }

    /// One of several results that come one by one: a line for people, one line of JSON, one document of YAML. `false`
    /// when nobody reads any more.
    #[must_use]
    pub fn record(&self, document: &impl Serialize, line: impl AsRef<str>) -> bool {
        let mut stdout = std::io::stdout().lock();
        let written = match self.format {
            Format::Table => writeln!(stdout, "{}", line.as_ref()),
            Format::Json => {
                let text = serde_json::to_string(document).expect("plain structs");
                writeln!(stdout, "{text}")
            }
            Format::Yaml => {
                drop(stdout);
                self.yaml(document);
                return true;
            }
        };
        written.and_then(|()| stdout.flush()).is_ok()
    }

    fn yaml(&self, document: &impl Serialize) {
        // By way of JSON, so that both have the same shape.
        let value = serde_json::to_value(document).expect("plain structs");
        let text = serde_norway::to_string(&value).expect("a JSON value");
        _ = write!(std::io::stdout().lock(), "---\n{text}");
    }

    /// The status in its colour.
    #[must_use]
    pub fn status(&self, status: Status) -> String {
        if !self.colour {
            return status.name().to_owned();
        }
        let code = match colour_of(status) {
            Some(Color::Green) => 32,
            Some(Color::Red) => 31,
            Some(Color::Yellow) => 33,
            Some(_) | None => 36,
        };
        format!("\x1b[{code}m{status}\x1b[0m")
    }

    fn paint(&self, table: &Table) -> Table {
        let mut table = table.clone();
        for row in table.row_iter_mut() {
            let harmless = row.cell_iter().cloned().map(harmless).collect::<Vec<_>>();
            *row = Row::from(harmless);
        }
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }
}

/// Texts of others, such as the title of a task, must not steer the terminal.
fn harmless(cell: Cell) -> Cell {
    let text = cell.content();
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(steers) {
        Cell::new(text.replace(steers, "\u{fffd}"))
    } else {
        cell
    }
}

/// A status as a table cell.
#[must_use]
pub fn status_cell(status: Status) -> Cell {
    let cell = Cell::new(status.name());
    match colour_of(status) {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

fn colour_of(status: Status) -> Option<Color> {
    if status == Status::Completed {
        Some(Color::Green)
    } else if status.is_terminal() {
        Some(Color::Red)
    } else if status == Status::Waiting {
        Some(Color::Yellow)
    } else {
        None
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

/// A list of things without borders, so that it can be cut and searched; all columns are text.
#[must_use]
pub fn list(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().map(|name| name.to_uppercase()));
    table
}

/// Names and values of one thing; rows without a value are left out.
#[must_use]
pub fn properties(rows: Vec<(&str, Option<Cell>)>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        if let Some(value) = value {
            table.add_row([Cell::new(name), value]);
        }
    }
    table
}
