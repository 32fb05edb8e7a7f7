//! Who wants the first few rows of an order has originals looked for of these, and not of all.
//!
//! In: a plan that sorts, takes some rows, and has originals in what it sorts. Out: the same, in which rows are sorted and taken once more before that.
//! Invariant: rows stay as they are: only what has one row for each of its input stands between the two.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, Result,
        tree_node::{Transformed, TreeNode as _},
    },
    logical_expr::{Expr, LogicalPlan, Sort, SortExpr, SubqueryAlias},
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use super::is_asked_by;

/// Takes rows before originals are looked for.
#[derive(Debug)]
pub(crate) struct TakeFirst;

impl OptimizerRule for TakeFirst {
    fn name(&self) -> &str {
        "take_first"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(Sort { expr, input, fetch: Some(rows) }) = &plan else {
            return Ok(Transformed::no(plan));
        };
        match below(input, expr, *rows)? {
            Some(input) => {
                let sort = Sort { expr: expr.clone(), input: Arc::new(input), fetch: Some(*rows) };
                Ok(Transformed::yes(LogicalPlan::Sort(sort)))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The plan with rows taken where originals are not there yet; none if there is no such place.
fn below(plan: &LogicalPlan, order: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    let through = |to: &dyn Fn(&Column) -> Result<Expr>| {
        let one = |sort: &SortExpr| Ok(SortExpr { expr: replaced(&sort.expr, to)?, ..sort.clone() });
        order.iter().map(one).collect::<Result<Vec<_>>>()
    };
    match plan {
        LogicalPlan::Projection(made) => {
            let inner = through(&|column| {
                let at = made.schema.index_of_column(column)?;
                Ok(made.expr.get(at).map_or_else(|| Expr::Column(column.clone()), |of| of.clone().unalias()))
            })?;
            let input = if made.expr.iter().any(is_asked_by) {
                let taken = matches!(&*made.input, LogicalPlan::Sort(sort) if sort.fetch.is_some());
                if taken || inner.iter().any(|sort| is_asked_by(&sort.expr)) {
                    return Ok(None);
                }
                LogicalPlan::Sort(Sort { expr: inner, input: Arc::clone(&made.input), fetch: Some(rows) })
            } else {
                let Some(input) = below(&made.input, &inner, rows)? else { return Ok(None) };
                input
            };
            plan.with_new_exprs(made.expr.clone(), vec![input]).map(Some)
        }
        LogicalPlan::SubqueryAlias(named) => {
            let inner = through(&|column| {
                let at = named.schema.index_of_column(column)?;
                Ok(Expr::Column(Column::from(named.input.schema().qualified_field(at))))
            })?;
            let Some(input) = below(&named.input, &inner, rows)? else { return Ok(None) };
            let named = SubqueryAlias::try_new(Arc::new(input), named.alias.clone())?;
            Ok(Some(LogicalPlan::SubqueryAlias(named)))
        }
        _ => Ok(None),
    }
}

/// An expression over other columns.
fn replaced(expr: &Expr, to: &dyn Fn(&Column) -> Result<Expr>) -> Result<Expr> {
    let replaced = expr.clone().transform(|of| match &of {
        Expr::Column(column) => to(column).map(Transformed::yes),
        _ => Ok(Transformed::no(of)),
    });
    replaced.map(|replaced| replaced.data)
}
