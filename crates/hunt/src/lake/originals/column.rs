//! `event.original` in queries over the lake.
//!
//! In: the columns that say where events stood. Out: a column of originals, which is looked for where a query needs it and not before: behind its
//! conditions and its limit. Invariants: `*` does not bring it along; nothing is skipped by a condition on it, since no file of events knows it.
//!
//! The tables of a query have it as a hidden column, and where a query names it, [`function`] stands before that: so what is named can be told from what
//! `*` brings along, which is taken out of the answer by its name.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow_array::cast::AsArray as _;
use arrow_schema::DataType;
use async_trait::async_trait;
use datafusion::{
    common::{exec_err, tree_node::TreeNode as _},
    dataframe::DataFrame,
    error::{DataFusionError, Result},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl},
    },
    prelude::ident,
};

use super::{Finder, HIDDEN, ORIGINAL, Sought};
use crate::columns::{INCARNATION, OFFSET, PARTITION, SOURCE, TIME, TOPIC, time_type};

/// No function of a query is called so.
const LOOKUP: &str = "vedette.original_of";

/// What it takes to find the original of an event.
const NEEDS: [&str; 6] = [SOURCE, TIME, TOPIC, INCARNATION, PARTITION, OFFSET];

/// These events with their originals, as a hidden column.
pub(crate) fn shown(events: DataFrame, finder: &Arc<Finder>) -> Result<DataFrame> {
    let types = vec![
        DataType::Utf8View,
        time_type(),
        DataType::Utf8View,
        DataType::UInt16,
        DataType::Int32,
        DataType::Int64,
    ];
    let signature = Signature::exact(types, Volatility::Immutable);
    let lookup = AsyncScalarUDF::new(Arc::new(Lookup { finder: Arc::clone(finder), signature }));
    let found = lookup.into_scalar_udf().call(NEEDS.map(ident).to_vec()).alias(HIDDEN);
    let schema = Arc::clone(events.schema().inner());
    let columns = schema.fields().iter().map(|field| ident(field.name()));
    events.select(columns.chain([found]).collect::<Vec<_>>())
}

/// Whether a condition asks for originals.
pub(crate) fn is_asked_by(condition: &Expr) -> bool {
    let asks = |of: &Expr| Ok(matches!(of, Expr::ScalarFunction(function) if function.func.name() == LOOKUP));
    // Nothing here fails.
    condition.exists(asks).unwrap_or(true)
}

/// What stands for the column where a query names it.
pub(crate) fn function() -> ScalarUDF {
    ScalarUDF::from(Named { signature: Signature::exact(vec![DataType::Utf8View], Volatility::Immutable) })
}

/// The hidden column by the name that people write.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    signature: Signature,
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        ORIGINAL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn schema_name(&self, _: &[Expr]) -> Result<String> {
        Ok(ORIGINAL.to_owned())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.pop() else { return exec_err!("`{ORIGINAL}` is a column") };
        Ok(value)
    }
}

/// Looks for originals.
#[derive(Debug)]
struct Lookup {
    finder: Arc<Finder>,
    signature: Signature,
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.finder, &other.finder)
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        LOOKUP.hash(state);
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        LOOKUP
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("`{ORIGINAL}` can be shown, compared and sorted by, and not used here")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Lookup {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let wrong = || DataFusionError::Internal("the place of an event is of another type".to_owned());
        let [sources, times, topics, incarnations, partitions, offsets] = &arrays[..] else {
            return Err(wrong());
        };
        let sought = Sought {
            sources: sources.as_string_view_opt().ok_or_else(wrong)?,
            times: times.as_primitive_opt().ok_or_else(wrong)?,
            topics: topics.as_string_view_opt().ok_or_else(wrong)?,
            incarnations: incarnations.as_primitive_opt().ok_or_else(wrong)?,
            partitions: partitions.as_primitive_opt().ok_or_else(wrong)?,
            offsets: offsets.as_primitive_opt().ok_or_else(wrong)?,
        };
        Ok(ColumnarValue::Array(Arc::new(self.finder.find(&sought).await?)))
    }
}
