//! What a command has to say: once, as text or as JSON, with the same facts.
//!
//! A [`Report`] is one value with two faces. With `--json` a command prints one document; a listing prints one document
//! a line, so that it streams. Results go to standard output; notes, progress and errors to standard error.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::Trouble;

/// What a command found out or did.
pub trait Report: Serialize {
    /// Writes it for people.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Text or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How much is said beside the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Notes and progress.
    Normal,
    /// Errors only.
    Quiet,
}

/// Standard output and standard error.
pub struct Output {
    form: Form,
    talk: Talk,
    out: io::BufWriter<io::Stdout>,
}

impl Output {
    /// The process's streams.
    pub fn new(form: Form, talk: Talk) -> Self {
        Self {
            form,
            talk,
            out: io::BufWriter::with_capacity(64 << 10, io::stdout()),
        }
    }

    /// Text or JSON.
    pub fn form(&self) -> Form {
        self.form
    }

    /// True when progress may be drawn: someone is looking at a terminal and has not asked for silence.
    pub fn draws_progress(&self) -> bool {
        self.form == Form::Text && self.talk == Talk::Normal && io::stderr().is_terminal()
    }

    /// Prints a result: a document in JSON, pretty enough to read.
    pub fn report(&mut self, report: &impl Report) -> Result<(), Trouble> {
        let written = match self.form {
            Form::Text => report.text(&mut self.out),
            Form::Json => json(&mut self.out, report, true),
        };
        written.and_then(|()| self.out.flush()).map_err(broken)
    }

    /// Prints one item of a listing: a line in JSON.
    pub fn item(&mut self, item: &impl Report) -> Result<(), Trouble> {
        let written = match self.form {
            Form::Text => item.text(&mut self.out),
            Form::Json => json(&mut self.out, item, false),
        };
        written.map_err(broken)
    }

    /// Prints a listing that is short enough to be aligned: a table, or JSON lines.
    pub fn table<T: Serialize>(
        &mut self,
        columns: &[Column],
        items: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Trouble> {
        let written = match self.form {
            Form::Text => write!(self.out, "{}", aligned(columns, items.iter().map(row))),
            Form::Json => items.iter().try_for_each(|item| json(&mut self.out, item, false)),
        };
        written.and_then(|()| self.out.flush()).map_err(broken)
    }

    /// Ends a listing.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        self.out.flush().map_err(broken)
    }

    /// Standard output for raw bytes.
    pub fn raw(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Says something beside the result.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.talk == Talk::Normal {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Figures stand to the right.
    pub align: CellAlignment,
}

/// A column of words.
pub const fn words(name: &'static str) -> Column {
    Column {
        name,
        align: CellAlignment::Left,
    }
}

/// A column of figures.
pub const fn figures(name: &'static str) -> Column {
    Column {
        name,
        align: CellAlignment::Right,
    }
}

/// Lays rows out in columns, two spaces apart, each line ended. Nothing is cut: a table that is too wide wraps in the
/// terminal, and `grep` finds whole names.
pub fn aligned(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if columns.iter().any(|column| !column.name.is_empty()) {
        table.set_header(columns.iter().map(|column| column.name));
    }
    for row in rows {
        table.add_row(row);
    }
    let last = columns.len().saturating_sub(1);
    for (at, column) in columns.iter().enumerate() {
        if let Some(laid) = table.column_mut(at) {
            laid.set_cell_alignment(column.align);
            laid.set_padding((0, if at == last { 0 } else { 2 }));
        }
    }
    // The library fills lines with spaces to the end.
    table
        .lines()
        .fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn json(out: &mut dyn Write, value: &impl Serialize, pretty: bool) -> io::Result<()> {
    if pretty {
        serde_json::to_writer_pretty(&mut *out, value)?;
    } else {
        serde_json::to_writer(&mut *out, value)?;
    }
    out.write_all(b"\n")
}

/// What a failed write to standard output means.
pub fn broken(error: io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Trouble::reader_gone()
    } else {
        Trouble::failed("the output can't be written").source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_end_without_spaces() {
        let rows = [["a", "5"], ["longer", "1234"]].map(|row| row.map(str::to_owned).to_vec());
        let text = aligned(&[words("NAME"), figures("BYTES")], rows.into_iter());
        assert_eq!(text, "NAME    BYTES\na           5\nlonger   1234\n");
    }
}
