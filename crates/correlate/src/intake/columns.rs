//! From columns to payloads: what each tree needs of an event is taken at once, so that a batch need not be kept.
//!
//! In: an [`EventBatch`] and hits. Out: payloads, one for each (event, tree).
//! Invariants: the columns of a source are looked up by name once, until the decoder's projection changes; what is kept of an
//! event is bounded whatever it holds, and a long text is hashed once for all trees that have it in their keys.

use std::sync::Arc;

use smallvec::SmallVec;
use vedette_event::{
    Cell, Column, EventBatch, Hit, KEY_PART_BYTES, Kind, Projection, SourceIx, Sources, key_part,
};

use crate::{
    body::slash64,
    codec::{KeyHasher, write_varint},
    intake::{
        payload::{write_cell, write_matched},
        values::write_values,
    },
    plan::{Plan, Tree, VersionUses, cuts},
};

/// Where the columns of one source are.
#[derive(Debug, Default)]
pub struct Layout {
    projection: Option<Arc<Projection>>,
    trees: Vec<Option<Columns>>,
    long: LongTexts,
}

/// The long texts of one event as they stand in keys, by column.
#[derive(Debug, Default)]
struct LongTexts(Vec<(usize, String)>);

impl LongTexts {
    fn write(&mut self, column: usize, cell: Cell<'_>, out: &mut Vec<u8>) {
        if let Some((_, text)) = self.0.iter().find(|(known, _)| *known == column) {
            return write_cell(out, cell.kind, text);
        }
        let text = key_part(cell.text).into_owned();
        write_cell(out, cell.kind, &text);
        self.0.push((column, text));
    }
}

/// Where one tree finds what it needs.
#[derive(Debug)]
struct Columns {
    /// By slot.
    slots: Vec<SmallVec<[ColumnAt; 1]>>,
    /// Number of the name, and its column, in order of preference (single-event rules by the source's list).
    entity: Vec<(u64, ColumnAt)>,
    weight: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct ColumnAt {
    column: usize,
    /// IPv6 addresses are cut to /64.
    cut: bool,
}

impl Layout {
    /// Forgets everything if the projection changed.
    pub fn refresh(&mut self, projection: &Arc<Projection>, trees: usize) {
        let same = self.projection.as_ref().is_some_and(|known| Arc::ptr_eq(known, projection));
        if !same || self.trees.len() != trees {
            self.projection = Some(Arc::clone(projection));
            self.trees.clear();
            self.trees.resize_with(trees, || None);
        }
    }

    /// Another event follows.
    pub fn next_event(&mut self) {
        self.long.0.clear();
    }

    /// Writes the payload of one tree and gives the event's weight.
    pub fn payload(
        &mut self,
        (plan, hasher): (&Plan, &KeyHasher),
        at: u32,
        (events, version): (&EventBatch, usize),
        row: usize,
        matched: &[(u32, u16)],
        out: &mut Vec<u8>,
    ) -> u16 {
        let (Some(tree), Some(slot)) = (plan.trees.get(at as usize), self.trees.get_mut(at as usize)) else {
            return 1;
        };
        let source = events.source;
        let columns = slot.get_or_insert_with(|| {
            let sources = plan.versions.get(version).map_or(&plan.sources, |v| &v.sources);
            Columns::new(plan, tree, (sources, source), events.projection().fields())
        });
        let cells = events.columns();
        if tree.single() {
            columns.entity(cells, row, &mut self.long, out);
            return 1;
        }
        write_matched(out, matched.iter().map(|(_, bit)| *bit));
        for (slot, places) in tree.slots.iter().zip(&columns.slots) {
            match find(places, cells, row) {
                Some((cell, _)) if !slot.key && cell.text.len() > KEY_PART_BYTES => {
                    write_values(out, cell, hasher, tree.values_of_event());
                }
                Some((cell, _)) if !slot.key => write_cell(out, cell.kind, cell.text),
                found => write_key(found, &mut self.long, out),
            }
        }
        let weight = columns.weight.and_then(|column| cells.get(column)).map(|column| column.cell(row));
        weight.filter(|cell| cell.kind == Kind::Int).map_or(1, |cell| clamp(cell.text))
    }
}

/// A whole number as a weight.
fn clamp(text: &str) -> u16 {
    if text.starts_with('-') {
        return 1;
    }
    text.parse::<u64>().map_or(10_000, |n| n.clamp(1, 10_000) as u16)
}

impl Columns {
    fn new(plan: &Plan, tree: &Tree, (sources, source): (&Sources, SourceIx), fields: &[Arc<str>]) -> Self {
        let def = sources.get(source);
        let find = |name: &str| {
            let column = fields.iter().position(|field| **field == *name)?;
            Some(ColumnAt { column, cut: cuts(sources, source, name) })
        };
        let slots =
            tree.slots.iter().map(|slot| def.resolve(&slot.field).into_iter().filter_map(find).collect());
        let names = tree.nodes.first().map(|node| &node.names[..]).unwrap_or_default();
        let entity = def.entity.iter().filter_map(|name| {
            let number = names.iter().position(|known| **known == **name)?;
            Some((number as u64, find(name)?))
        });
        Self {
            slots: slots.collect(),
            entity: if tree.entity_list(&plan.rules) { entity.collect() } else { Vec::new() },
            weight: if tree.weighted { def.weight.as_deref().and_then(find).map(|p| p.column) } else { None },
        }
    }

    /// The key of a single-event rule.
    fn entity(&self, cells: &[Column], row: usize, long: &mut LongTexts, out: &mut Vec<u8>) {
        for (name, place) in &self.entity {
            let Some(column) = cells.get(place.column) else { continue };
            let cell = column.cell(row);
            if scalar(cell.kind) {
                out.push(1);
                write_varint(out, *name);
                write_key(Some((cell, *place)), long, out);
                return;
            }
        }
        if let Some(places) = self.slots.first() {
            let start = out.len();
            out.extend([1, 0]);
            write_key(find(places, cells, row), long, out);
            if out.get(start + 2).is_some_and(|kind| *kind != 0) {
                return;
            }
            out.truncate(start);
        }
        out.push(0);
    }
}

const fn scalar(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Int | Kind::Float | Kind::Bool)
}

/// The first cell that is neither missing nor null.
#[inline]
fn find<'a>(places: &[ColumnAt], cells: &'a [Column], row: usize) -> Option<(Cell<'a>, ColumnAt)> {
    places.iter().find_map(|place| {
        let cell = cells.get(place.column)?.cell(row);
        (!matches!(cell.kind, Kind::Missing | Kind::Null)).then_some((cell, *place))
    })
}

/// A part of a key, where lists and objects are missing.
#[inline]
fn write_key(found: Option<(Cell<'_>, ColumnAt)>, long: &mut LongTexts, out: &mut Vec<u8>) {
    let Some((cell, place)) = found.filter(|(cell, _)| scalar(cell.kind)) else {
        return write_cell(out, Kind::Missing, "");
    };
    if cell.text.len() > KEY_PART_BYTES {
        return long.write(place.column, cell, out);
    }
    match if place.cut { slash64(cell.text) } else { None } {
        Some(network) => write_cell(out, cell.kind, &network),
        None => write_cell(out, cell.kind, cell.text),
    }
}

/// The hits of one row as (tree, number of the detection there), sorted, each tree's together.
pub fn trees_of(version: &VersionUses, hits: &[Hit], into: &mut Vec<(u32, u16)>) {
    into.clear();
    for hit in hits {
        if let Some(uses) = version.uses.get(hit.rule.0 as usize) {
            into.extend_from_slice(uses);
        }
    }
    if into.len() > 1 {
        into.sort_unstable();
        into.dedup();
    }
}
