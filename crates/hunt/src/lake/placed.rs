//! Events take the times at which they take part, as detection has them.
//!
//! In: events with the times that they claim, and how each is placed. Out: the same with `@timestamp` where they are placed, `vedette.clock`
//! why that is not the claimed one, `vedette.claimed` what that was, `event.ingested` when the broker took them, and the incarnation of
//! their topic. Invariant: all else stays as it is.

use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt16Array,
    cast::AsArray as _, types::TimestampMicrosecondType,
};
use arrow_schema::ArrowError;
use datafusion::arrow::compute::cast;
use vedette_event::{Incarnation, Micros, Placed};

use crate::columns::{CLAIMED, INCARNATION, TIME, time_type};

/// The name of the column that says when the broker took an event.
pub const INGESTED: &str = "event.ingested";
/// The name of the column that says why an event is not where it claims to be.
pub const CLOCK: &str = "vedette.clock";

/// Puts events where they are placed; `placed` and `logs` say so of each, `incarnation` which of the topics of that name they are of.
///
/// # Errors
/// If the events do not have these columns, or are not as many, which would be a defect of whoever gives them.
pub fn placed(
    events: &RecordBatch,
    placed: &[Placed],
    logs: &[Micros],
    incarnation: Incarnation,
) -> Result<RecordBatch, ArrowError> {
    let schema = events.schema();
    let claims = events.column(schema.index_of(TIME)?).as_primitive::<TimestampMicrosecondType>();
    let claimed = (0..claims.len()).map(|row| {
        let claim = claims.is_valid(row).then(|| claims.value(row));
        claim.filter(|claim| placed.get(row).is_none_or(|placed| placed.time.0 != *claim))
    });
    let claimed: TimestampMicrosecondArray = claimed.collect();
    let claimed: ArrayRef = Arc::new(claimed.with_data_type(time_type()));
    let times = |times: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times).with_data_type(time_type()))
    };
    let clocks = placed.iter().map(|placed| match placed.flags.is_empty() {
        true => None,
        false => Some(placed.flags.names().collect::<Vec<_>>().join(" ")),
    });
    let clocks: ArrayRef = Arc::new(clocks.collect::<StringArray>());
    let mut columns = events.columns().to_vec();
    let mut put = |name: &str, array: ArrayRef| -> Result<(), ArrowError> {
        let at = schema.index_of(name)?;
        if let Some(column) = columns.get_mut(at) {
            *column = cast(&array, schema.field(at).data_type())?;
        }
        Ok(())
    };
    put(TIME, times(placed.iter().map(|placed| placed.time.0).collect()))?;
    put(INGESTED, times(logs.iter().map(|log| log.0).collect()))?;
    put(CLOCK, clocks)?;
    put(CLAIMED, claimed)?;
    put(INCARNATION, Arc::new(UInt16Array::from_value(incarnation, events.num_rows())))?;
    RecordBatch::try_new(schema.clone(), columns)
}
