//! The alerts of a backtest, as they become known.
//!
//! In: revisions of alerts, in the order in which the engine says them. Out: each alert that crosses in the stretch asked for, once, as it was
//! in the end: written whole, or kept in a few words. Invariants: an open alert is held until it ends, and no other is; a few words are kept
//! of [`MOST`] alerts, and the others counted, so that a rule that matches everything does not take all memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use vedette_engine::NewRevision;
use vedette_event::{Flags, Micros, State, key_text};

use super::report::Told;
use crate::table;

/// Alerts that are kept: half a gigabyte at the very most, a tenth of that as a rule.
const MOST: usize = 500_000;

/// Takes alerts.
pub struct Sink<'a, W> {
    stretch: (Micros, Micros),
    /// Where whole alerts go, if they are to be written.
    out: Option<&'a mut W>,
    open: BTreeMap<String, NewRevision>,
    told: Vec<Told>,
    /// Those that are counted only.
    more: u64,
    /// Rules one of whose alerts stands for many.
    stormy: BTreeSet<u32>,
}

impl<'a, W: Write> Sink<'a, W> {
    /// Of alerts that cross in a stretch; `out` takes them whole.
    pub fn new(stretch: (Micros, Micros), out: Option<&'a mut W>) -> Self {
        Self { stretch, out, open: BTreeMap::new(), told: Vec::new(), more: 0, stormy: BTreeSet::new() }
    }

    /// Takes revisions.
    pub fn take(&mut self, revisions: Vec<NewRevision>) -> io::Result<()> {
        let (from, to) = self.stretch;
        for revision in revisions {
            let alert = &revision.alert;
            if alert.crossed_at < from || alert.crossed_at >= to {
                continue;
            }
            let id = alert.alert_id.to_string();
            if alert.state == State::Ended {
                self.open.remove(&id);
                self.ended(id, &revision)?;
            } else {
                self.open.insert(id, revision);
            }
        }
        Ok(())
    }

    fn ended(&mut self, alert_id: String, NewRevision { alert, rule, .. }: &NewRevision) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            table::write_json(out, alert, false)?;
            out.write_all(b"\n")?;
        }
        if alert.flags.has(Flags::STORM) {
            self.stormy.insert(rule.0);
        }
        if self.told.len() == MOST {
            self.more += 1;
            return Ok(());
        }
        self.told.push(Told {
            alert_id,
            rule: rule.0,
            key: key_text(&alert.key),
            first_seen: alert.first_seen,
            crossed_at: alert.crossed_at,
            last_seen: alert.last_seen,
            open: alert.state != State::Ended,
        });
        Ok(())
    }

    /// Those that are open are as they are. All in the order of crossing, how many more there were, and the rules that met a storm.
    pub fn finish(mut self) -> io::Result<(Vec<Told>, u64, BTreeSet<u32>)> {
        for (id, revision) in std::mem::take(&mut self.open) {
            self.ended(id, &revision)?;
        }
        self.told.sort_by(|a, b| (a.crossed_at, &a.alert_id).cmp(&(b.crossed_at, &b.alert_id)));
        Ok((self.told, self.more, self.stormy))
    }
}
