//! What columns cannot say of their cells: the lake's events come back as they were decoded.
//!
//! In: cells as the decoder has them, and the arrays made of them. Out: for each row an object of the texts of those cells that their array
//! does not give back; null where it gives back all, as nearly everywhere. Lists are the usual ones there: their array holds texts, and
//! numbers, blanks and what is nested are told apart only as they were written. A value that is not of its column's type is another.
//! Invariant: [`render`] of a list's array, or the text here, is the text of the cell.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{Array as _, ArrayRef, StringViewArray, builder::StringViewBuilder, cast::AsArray as _};
use vedette_event::FieldType;

use crate::columns::{Column, Content};

/// The texts of a batch.
pub(crate) struct Spelled {
    /// Which column they are, if somebody wants them.
    at: Option<usize>,
    rows: BTreeMap<usize, BTreeMap<Arc<str>, String>>,
}

impl Spelled {
    /// For these columns. Where cells have no declared types, nothing is looked at: there the whole record is in a column.
    pub(crate) fn new(columns: &[Column], typed: bool) -> Self {
        let at = || columns.iter().position(|column| column.content == Content::Spelled);
        Self { at: typed.then(at).flatten(), rows: BTreeMap::new() }
    }

    /// Looks at a column.
    pub(crate) fn look(
        &mut self,
        name: &Arc<str>,
        texts: &StringViewArray,
        array: &ArrayRef,
        declared: Option<FieldType>,
    ) {
        if self.at.is_none() {
            return;
        }
        let list = declared == Some(FieldType::List);
        if !list && texts.null_count() == array.null_count() {
            return;
        }
        let lists = array.as_list_opt::<i32>().filter(|_| list);
        for (row, text) in texts.iter().enumerate() {
            let Some(text) = text else { continue };
            let said = array.is_valid(row)
                && lists.is_none_or(|lists| render(lists.value(row).as_string_view()) == text);
            if !said {
                self.rows.entry(row).or_default().insert(Arc::clone(name), text.to_owned());
            }
        }
    }

    /// The column's number and itself.
    pub(crate) fn finish(self, rows: usize) -> Option<(usize, ArrayRef)> {
        let at = self.at.filter(|_| !self.rows.is_empty())?;
        let mut texts = StringViewBuilder::with_capacity(rows);
        for row in 0..rows {
            texts.append_option(self.rows.get(&row).and_then(|of_row| serde_json::to_string(of_row).ok()));
        }
        Some((at, Arc::new(texts.finish())))
    }
}

/// A list of texts as JSON.
pub(crate) fn render(texts: &StringViewArray) -> String {
    let mut out = String::from("[");
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        // A text is always JSON.
        out.push_str(&serde_json::to_string(&text).unwrap_or_default());
    }
    out.push(']');
    out
}
