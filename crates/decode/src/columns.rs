//! What may become a cell of a batch in the making.
//!
//! In: cells as the record has them. Out: cells of a [`BatchBuilder`].
//! Invariants: a cell is canonical for its field's declared type; one that cannot be cast is missing and counted; a
//! secret is only its hash.

use std::sync::Arc;

use vedette_event::{BatchBuilder, Cell, FieldType, Fields, Kind, Projection};

use crate::{cast::cast, exact, secret::Secrets, unmapped::UNMAPPED};

/// How much of a value a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing: it is not of the field's type.
    Nothing,
    /// All that it says.
    All,
    /// Less: there were digits that the field's type has no room for. Told only where somebody asks for what is left.
    Part,
}

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
    /// By column, then of the hidden fields.
    plans: Vec<Plan>,
    /// The batch.
    pub batch: BatchBuilder,
    /// Whether fields of the event at hand hold less than their record says; its decoder notes it.
    pub altered: bool,
    /// Whether anybody asks.
    exacting: bool,
    secrets: Secrets,
    canonical: String,
    hidden: String,
}

impl Columns {
    /// The columns of a projection, and after them fields whose cells are only looked at; `typed` says whether declared
    /// types apply.
    #[must_use]
    pub fn new(
        projection: &Arc<Projection>,
        hidden: &[Arc<str>],
        fields: &Fields,
        typed: bool,
        secrets: Secrets,
    ) -> Self {
        let plan = |name: &Arc<str>| {
            let declared = if typed { fields.kind(name) } else { None };
            Plan { name: name.clone(), declared, secret: secret(name, declared, &secrets), failed: 0 }
        };
        Self {
            plans: projection.fields().iter().chain(hidden).map(plan).collect(),
            batch: BatchBuilder::new(Arc::clone(projection)),
            altered: false,
            exacting: projection.fields().iter().any(|name| **name == *UNMAPPED),
            secrets,
            canonical: String::new(),
            hidden: String::new(),
        }
    }

    /// Sets a cell of the event at hand; the first one counts. The batch has no room for cells of hidden fields, so that these
    /// are told and nothing else.
    #[inline]
    pub fn put(&mut self, column: usize, cell: Cell<'_>) -> Held {
        let Some(plan) = self.plans.get_mut(column) else { return Held::Nothing };
        let (before, mut cell) = (cell, cell);
        let mut held = Held::All;
        if let Some(declared) = plan.declared {
            match cast(declared, cell, &mut self.canonical) {
                Some(canonical) => cell = canonical,
                None => {
                    plan.failed += 1;
                    return Held::Nothing;
                }
            }
            if self.exacting && !exact::says(declared, before, cell) {
                held = Held::Part;
            }
        }
        if plan.secret != Secret::No {
            cell = hide(plan, &self.secrets, cell, &mut self.hidden);
        }
        self.batch.put(column, cell);
        held
    }

    /// How many values each field had that are not of its type; fields without are left out.
    pub fn failures(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let plans = self.plans.iter().take(self.batch.columns());
        plans.filter(|plan| plan.failed > 0).map(|plan| (&plan.name, plan.failed))
    }
}
