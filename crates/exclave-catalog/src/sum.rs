//! Sums over rows that a snapshot's content hangs on.
//!
//! SQLite checks the form of a page, never its content: a bit that flips inside a number is read back as another number. A
//! chunk's place that is wrong by one would be referred to by every later snapshot, and nobody would know before a restore.
//! So such rows carry eight bytes of the BLAKE3 of all their columns. Whoever can write the file can write sums, too: this is
//! against decay, not against people.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::error::Fault;

/// A sum that is being made.
pub(crate) struct RowSum(blake3::Hasher);

impl RowSum {
    /// Begins the sum of a row of `table`.
    pub(crate) fn of(table: &str) -> Self {
        Self(blake3::Hasher::new()).bytes(table.as_bytes())
    }

    /// Adds a number.
    pub(crate) fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_be_bytes());
        self
    }

    /// Adds bytes, and how many they are.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// The sum as a column holds it.
    pub(crate) fn value(&self) -> i64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        i64::from_be_bytes(first)
    }

    /// Compares with what the row says; a row that was written before there were sums says nothing.
    pub(crate) fn check(&self, row: &SqliteRow, column: usize, what: impl FnOnce() -> String) -> Result<(), Fault> {
        let said: Option<i64> = row.try_get(column)?;
        match said {
            Some(said) if said != self.value() => Err(Fault::Value(format!("{} has decayed", what()))),
            Some(_) | None => Ok(()),
        }
    }
}
