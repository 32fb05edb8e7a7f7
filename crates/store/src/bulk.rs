//! Statements over many rows at once.
//!
//! In: a [`Bulk`], rows, what to bind of each. Out: how many rows it touched, or the rows it gives.
//! Each statement is a word to the database's thread and back, which cost more than the row itself: at ten statements
//! an alert, the store took some 500 alerts a second. Invariants: rows go in pieces of a few fixed sizes, so that the
//! statements stay prepared; no statement has more arguments than SQLite takes (32,766); arguments have no names. With
//! `$1` to `$1728` half of all time went into looking them up: SQLite walks the list of names for each argument that is
//! bound. PostgreSQL knows no other form, so its texts would be made here, too.

use sqlx::{AssertSqlSafe, any::AnyRow};

use crate::{
    error::Error,
    transaction::{Statement, WriteTx},
};

/// Rows of one statement, the largest that fits first. More sizes would be more statements to keep prepared.
const PIECES: [usize; 4] = [64, 16, 4, 1];

/// The text of a statement around its list of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    /// Before the rows.
    pub(crate) head: &'static str,
    /// Values in a row.
    pub(crate) columns: usize,
    /// After the rows.
    pub(crate) tail: &'static str,
}

impl Bulk {
    /// The statement for so many rows.
    pub(crate) fn text(&self, rows: usize) -> String {
        let mut text =
            String::with_capacity(self.head.len() + self.tail.len() + rows * (self.columns * 3 + 4));
        text.push_str(self.head);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..self.columns {
                text.push_str(if column == 0 { "?" } else { ", ?" });
            }
            text.push(')');
        }
        text.push_str(self.tail);
        text
    }
}

/// Cuts rows into pieces of the sizes above.
fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = PIECES.into_iter().find(|size| *size <= rows.len())?;
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}

impl WriteTx {
    /// Runs a statement for all rows; how many it touched.
    pub(crate) async fn run_bulk<T>(
        &mut self,
        bulk: Bulk,
        rows: &[T],
        bind: impl for<'q> Fn(Statement<'q>, &'q T) -> Statement<'q>,
    ) -> Result<u64, Error> {
        let mut touched = 0;
        for piece in pieces(rows) {
            let statement = sqlx::query(AssertSqlSafe(bulk.text(piece.len())));
            touched += self.run(piece.iter().fold(statement, &bind)).await?;
        }
        Ok(touched)
    }

    /// What a statement gives for all rows.
    pub(crate) async fn all_bulk<T>(
        &mut self,
        bulk: Bulk,
        rows: &[T],
        bind: impl for<'q> Fn(Statement<'q>, &'q T) -> Statement<'q>,
    ) -> Result<Vec<AnyRow>, Error> {
        let mut found = Vec::new();
        for piece in pieces(rows) {
            let statement = sqlx::query(AssertSqlSafe(bulk.text(piece.len())));
            found.extend(self.all(piece.iter().fold(statement, &bind)).await?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_in_few_pieces_of_fixed_sizes() {
        let rows = [0; 64 * 2 + 16 + 4 + 2];
        let sizes: Vec<usize> = pieces(&rows).map(<[i32]>::len).collect();
        assert_eq!(sizes, [64, 64, 16, 4, 1, 1]);
        assert_eq!(pieces::<i32>(&[]).count(), 0);
    }

    #[test]
    fn arguments_have_no_names_to_look_up() {
        let bulk = Bulk { head: "insert into t (a, b) values ", columns: 2, tail: " on conflict do nothing" };
        assert_eq!(bulk.text(2), "insert into t (a, b) values (?, ?), (?, ?) on conflict do nothing");
    }
}
