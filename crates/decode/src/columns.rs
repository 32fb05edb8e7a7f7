//! The columns of one batch in the making.
//!
//! In: cells by (column, row), rows in ascending order. Out: [`Column`]s of equal length.
//! Invariants: a cell is canonical for its field's declared type; one that cannot be cast is missing and counted; a
//! secret is only its hash; a column without values costs nothing.

use std::sync::Arc;

use vedette_event::{Cell, Column, ColumnBuilder, FieldType, Fields, Kind, Text};

use crate::{cast::cast, secret::Secrets};

/// One column's standing orders.
struct Plan {
    name: Arc<str>,
    declared: Option<FieldType>,
    secret: Secret,
    failed: u64,
}

/// What may have to be hidden in a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    /// Nothing.
    No,
    /// Everything.
    Whole,
    /// Parameters of URLs, and what lies inside lists and objects.
    Parts,
}

/// Canonical fields that hold a URL or a query.
const URLS: [&str; 4] = ["url.original", "url.query", "url.query_decoded", "http.request.referrer"];

fn secret(name: &str, declared: Option<FieldType>, secrets: &Secrets) -> Secret {
    let url = URLS.contains(&name) || declared.is_none();
    if secrets.covers(name) {
        Secret::Whole
    } else if !secrets.is_empty() && (url || declared == Some(FieldType::List)) {
        Secret::Parts
    } else {
        Secret::No
    }
}

/// The cell with its secrets hidden.
fn hide<'a>(plan: &Plan, secrets: &Secrets, cell: Cell<'a>, hidden: &'a mut String) -> Cell<'a> {
    match (plan.secret, cell.kind) {
        (Secret::No, _) | (_, Kind::Missing | Kind::Null) => cell,
        (Secret::Whole, _) => {
            hidden.clear();
            secrets.hide(cell.text, hidden);
            Cell { kind: Kind::Text, text: hidden }
        }
        (Secret::Parts, kind @ (Kind::List | Kind::Object)) => {
            *hidden = secrets.mask_json(&plan.name, cell.text);
            Cell { kind, text: hidden }
        }
        (Secret::Parts, kind) => match secrets.mask_parameters(cell.text) {
            Some(masked) => {
                *hidden = masked;
                Cell { kind, text: hidden }
            }
            None => cell,
        },
    }
}

/// All columns of a projection.
pub struct Columns {
    plans: Vec<Plan>,
    builders: Vec<Option<ColumnBuilder>>,
    raw: Text,
    secrets: Secrets,
    canonical: String,
    hidden: String,
}

impl Columns {
    /// Columns of these names; `typed` says whether declared types apply.
    #[must_use]
    pub fn new(projection: &[Arc<str>], fields: &Fields, typed: bool, secrets: Secrets) -> Self {
        let plan = |name: &Arc<str>| {
            let declared = if typed { fields.kind(name) } else { None };
            Plan { name: name.clone(), declared, secret: secret(name, declared, &secrets), failed: 0 }
        };
        Self {
            plans: projection.iter().map(plan).collect(),
            builders: projection.iter().map(|_| None).collect(),
            raw: Text::default(),
            secrets,
            canonical: String::new(),
            hidden: String::new(),
        }
    }

    /// Begins a batch over this raw text. What an earlier one left unfinished is dropped: after a panic in its midst the
    /// cells there would come out as those of the next batch's rows.
    pub fn begin(&mut self, raw: Text) {
        self.builders.fill_with(|| None);
        self.raw = raw;
    }

    /// Sets a cell; rows of one column come in ascending order, and of one row the first cell counts.
    #[inline]
    pub fn put(&mut self, column: usize, row: usize, cell: Cell<'_>) {
        let (Some(plan), Some(slot)) = (self.plans.get_mut(column), self.builders.get_mut(column)) else {
            return;
        };
        let mut cell = cell;
        if let Some(declared) = plan.declared {
            match cast(declared, cell, &mut self.canonical) {
                Some(canonical) => cell = canonical,
                None => {
                    plan.failed += 1;
                    return;
                }
            }
        }
        if plan.secret != Secret::No {
            cell = hide(plan, &self.secrets, cell, &mut self.hidden);
        }
        let builder = slot.get_or_insert_with(|| ColumnBuilder::new(self.raw.clone()));
        if builder.len() <= row {
            builder.pad(row);
            builder.push(cell.kind, cell.text);
        }
    }

    /// Ends a batch of so many rows.
    pub fn finish(&mut self, rows: usize) -> Vec<Column> {
        let finish = |slot: &mut Option<ColumnBuilder>| match slot.take() {
            Some(mut builder) => {
                builder.pad(rows);
                builder.finish()
            }
            None => Column::missing(rows),
        };
        let columns = self.builders.iter_mut().map(finish).collect();
        self.raw = Text::default();
        columns
    }

    /// How many values each field had that are not of its type; fields without are left out.
    pub fn failures(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.plans.iter().filter(|plan| plan.failed > 0).map(|plan| (&plan.name, plan.failed))
    }
}
