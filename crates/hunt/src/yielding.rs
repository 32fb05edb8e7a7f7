//! A query gives way: who stops it, and its limit of time, are heard while it makes much of little.
//!
//! In: a plan. Out: the same, in which whatever has many inputs, or makes several rows of one, counts its batches. Invariants: the rows are the same; whoever
//! waits beside the query has a turn after 128 batches at most. DataFusion counts those of sources alone, and the product of two sources has more:
//! three tables of some hundred thousand rows took 100 seconds before anybody heard that they were to take 60.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, coop::CooperativeExec, unnest::UnnestExec},
};

/// Has the plan give way.
#[derive(Debug)]
pub(crate) struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|plan| {
            if plan.children().len() < 2 && !plan.is::<UnnestExec>() {
                return Ok(Transformed::no(plan));
            }
            let counted: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
            Ok(Transformed::yes(counted))
        });
        counted.map(|counted| counted.data)
    }

    fn name(&self) -> &str {
        "give_way"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
