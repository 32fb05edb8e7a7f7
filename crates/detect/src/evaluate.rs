//! Batches in, hits out.
//!
//! In: a shared [`Program`] and an [`EventBatch`]. Out: [`Hit`]s sorted by row, then rule, each once.
//! An [`Evaluator`] holds what one thread changes while it works.

use std::sync::Arc;

use vedette_event::{Cell, EventBatch, Hit};

use crate::{
    program::{Program, applicable},
    reference,
};

/// One thread's scratch space for a program.
#[derive(Debug)]
pub struct Evaluator {
    program: Arc<Program>,
}

impl Evaluator {
    /// A fresh one.
    #[must_use]
    pub fn new(program: Arc<Program>) -> Self {
        Self { program }
    }

    /// Replaces `hits` by the hits of this batch, sorted by row, then rule, each once.
    pub fn evaluate(&mut self, batch: &EventBatch, hits: &mut Vec<Hit>) {
        hits.clear();
        let program = &*self.program;
        for row in 0..batch.rows() {
            let cell = |name: &str| {
                let column = program.fields.iter().position(|field| &**field == name);
                column.and_then(|at| batch.columns.get(at)).map_or(Cell::MISSING, |column| column.cell(row))
            };
            let original = batch.original.cell(row).text;
            for (rule, _) in applicable(&program.rules, &program.source) {
                if reference::matches(&program.rules, rule, &program.source, &cell, original) {
                    hits.push(Hit { row: row as u32, rule });
                }
            }
        }
    }
}
