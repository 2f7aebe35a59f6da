//! Small helpers between rows and nouns. What is read is checked: a damaged file must end in an error.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::error::Fault;

/// A column that must hold exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(row: &SqliteRow, column: usize) -> Result<[u8; N], Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|_| Fault::Value(format!("an id of {} bytes, {N} expected", bytes.len())))
}

/// A column that must hold a number of a narrower type.
pub(crate) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: usize) -> Result<T, Fault> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| Fault::Value(format!("number {number} is out of range")))
}

/// A column that holds all 64 bits of a number in a signed one.
pub(crate) fn bits(row: &SqliteRow, column: usize) -> Result<u64, Fault> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

/// `?,?,?`: `count` parameters, bound in order and before those that a statement names by a number (`$4`).
///
/// Not named, because SQLite walks the list of names for each name that it is asked for, and is asked for each.
pub(crate) fn parameters(count: usize) -> String {
    let mut text = "?,".repeat(count);
    text.pop();
    text
}

/// `rows` groups of `columns` parameters each: `(?,?),(?,?)`.
pub(crate) fn values(rows: usize, columns: usize) -> String {
    let mut text = format!("({}),", parameters(columns)).repeat(rows);
    text.pop();
    text
}

/// Cuts a batch into pieces of `width`, then of the powers of two below it, so that few different statements are ever
/// prepared. `width` is a power of two.
pub(crate) fn pieces<T>(batch: &[T], width: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = batch;
    let mut width = width;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        while width > rest.len() {
            width /= 2;
        }
        let (piece, others) = rest.split_at(width.max(1));
        rest = others;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_batch_in_powers_of_two() {
        let batch: Vec<u32> = (0..205).collect();
        let cut: Vec<_> = pieces(&batch, 64).map(<[u32]>::len).collect();
        assert_eq!(cut, [64, 64, 64, 8, 4, 1]);
        assert_eq!(pieces(&batch, 64).flatten().copied().collect::<Vec<_>>(), batch);
        assert_eq!(pieces::<u32>(&[], 64).count(), 0);
    }

    #[test]
    fn groups_of_parameters() {
        assert_eq!(values(2, 3), "(?,?,?),(?,?,?)");
        assert_eq!((parameters(1), parameters(0)), ("?".to_owned(), String::new()));
    }
}
