//! What a query reads, told while it runs and when it is over.
//!
//! In: the plan that runs, whose parts count. Out: [`Read`]. Invariant: looking changes nothing, and waits for nothing.

use std::{fmt, sync::Arc};

use datafusion::physical_plan::{ExecutionPlan, metrics::MetricValue};

use crate::lake::{BLOCKS_SKIPPED, FILES_SKIPPED, Finder, INDEX_BYTES, INDEXES_DAMAGED};

/// Looks at a query.
#[derive(Clone)]
pub struct Gauge {
    plan: Option<Arc<dyn ExecutionPlan>>,
    /// What looks for originals, beside the plan.
    finder: Option<Arc<Finder>>,
}

/// What was read of the lake so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Bytes of columns.
    pub bytes: u64,
    /// Files that were opened.
    pub files: u64,
    /// Files of which nothing was read, by what they say of all they hold.
    pub files_skipped: u64,
    /// Parts of files (row groups) that were read.
    pub groups: u64,
    /// Parts that were not, by their least and greatest values.
    pub groups_skipped_by_statistics: u64,
    /// Parts that were not, by their bloom filters.
    pub groups_skipped_by_bloom: u64,
    /// Files of which nothing was read, by the skip indexes beside them.
    pub files_skipped_by_index: u64,
    /// Parts of others that were not, by these.
    pub groups_skipped_by_index: u64,
    /// Bytes of indexes.
    pub index_bytes: u64,
    /// Indexes that were not as they were written, so that their files were read.
    pub indexes_damaged: u64,
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauge")
    }
}

impl Gauge {
    /// Of nothing yet.
    pub(crate) const NONE: Self = Self { plan: None, finder: None };

    /// Of a plan.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>, finder: Option<Arc<Finder>>) -> Self {
        Self { plan: Some(Arc::clone(plan)), finder }
    }

    /// What was read up to now.
    #[must_use]
    pub fn read(&self) -> Read {
        let mut read = Read::default();
        let mut left: Vec<&Arc<dyn ExecutionPlan>> = self.plan.iter().collect();
        while let Some(part) = left.pop() {
            for metric in part.metrics().iter().flat_map(|metrics| metrics.iter()) {
                read.add(metric.value());
            }
            left.extend(part.children());
        }
        if let Some((bytes, files)) = self.finder.as_ref().map(|finder| finder.read()) {
            read.bytes += bytes;
            read.files += files;
        }
        read
    }
}

impl Read {
    fn add(&mut self, value: &MetricValue) {
        match value {
            MetricValue::Count { name, count } => match &**name {
                "bytes_scanned" => self.bytes += count.value() as u64,
                "files_opened" => self.files += count.value() as u64,
                FILES_SKIPPED => self.files_skipped_by_index += count.value() as u64,
                BLOCKS_SKIPPED => self.groups_skipped_by_index += count.value() as u64,
                INDEX_BYTES => self.index_bytes += count.value() as u64,
                INDEXES_DAMAGED => self.indexes_damaged += count.value() as u64,
                _ => {}
            },
            MetricValue::PruningMetrics { name, pruning_metrics } => {
                let pruned = pruning_metrics.pruned() as u64;
                match &**name {
                    "files_ranges_pruned_statistics" => self.files_skipped += pruned,
                    "row_groups_pruned_statistics" => self.groups_skipped_by_statistics += pruned,
                    "row_groups_pruned_bloom_filter" => {
                        self.groups_skipped_by_bloom += pruned;
                        // These are asked last.
                        self.groups += pruning_metrics.matched() as u64;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
