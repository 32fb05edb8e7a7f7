//! `sigma('…')` over the lake: a column that says which events a rule matches.
//!
//! In: the columns of events that a rule needs. Out: true, false, or null where the rule could not be evaluated. Invariants: who knows rules judges, and
//! nobody here; a rule is evaluated only where a query asks for it, after all that can be skipped without it.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Schema, SchemaRef};
use datafusion::{
    common::tree_node::TreeNode as _,
    dataframe::DataFrame,
    error::{DataFusionError, Result},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    prelude::ident,
};

use crate::{columns::hidden_name, table::SourceError};

/// Says of each event of a batch whether a rule matches it, and nothing where it was not evaluated.
pub type Judge = Arc<dyn Fn(&RecordBatch) -> Result<BooleanArray, SourceError> + Send + Sync>;

/// A rule that a query of the lake names.
#[derive(Clone)]
pub struct Sigma {
    /// As the query calls it.
    pub rule: String,
    /// The columns that are needed to judge; the judge gets those of them that there are.
    pub needs: Vec<Arc<str>>,
    /// Who judges.
    pub judge: Judge,
}

impl fmt::Debug for Sigma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sigma").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// No function of a query is called so.
const NAME: &str = "vedette.sigma";

/// These events with a column of each rule.
pub(crate) fn with_rules(events: DataFrame, rules: &[Sigma]) -> Result<DataFrame> {
    if rules.is_empty() {
        return Ok(events);
    }
    let schema: SchemaRef = Arc::clone(events.schema().inner());
    let mut columns: Vec<Expr> = schema.fields().iter().map(|field| ident(field.name())).collect();
    columns.extend(rules.iter().map(|sigma| {
        let needs = sigma.needs.iter().filter_map(|name| schema.index_of(name).ok());
        let needs: Vec<usize> = needs.collect();
        let inputs = needs.iter().map(|at| ident(schema.field(*at).name())).collect();
        // That the schema has these columns was seen above.
        let needed = schema.project(&needs).map_or_else(|_| Arc::new(Schema::empty()), Arc::new);
        let types = needed.fields().iter().map(|field| field.data_type().clone()).collect();
        let signature = Signature::exact(types, Volatility::Immutable);
        let function = Judged { sigma: sigma.clone(), needed, signature };
        ScalarUDF::from(function).call(inputs).alias(hidden_name(&sigma.rule))
    }));
    events.select(columns)
}

/// Whether a condition asks a rule. No file can say that of itself, so that nothing is skipped by it.
pub(crate) fn is_asked_by(condition: &Expr) -> bool {
    let asks = |of: &Expr| Ok(matches!(of, Expr::ScalarFunction(function) if function.func.name() == NAME));
    // Nothing here fails.
    condition.exists(asks).unwrap_or(true)
}

/// A rule as a function of the columns that it needs.
#[derive(Debug)]
struct Judged {
    sigma: Sigma,
    needed: SchemaRef,
    signature: Signature,
}

impl PartialEq for Judged {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sigma.judge, &other.sigma.judge) && self.needed == other.needed
    }
}

impl Eq for Judged {}

impl Hash for Judged {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sigma.rule.hash(state);
    }
}

impl ScalarUDFImpl for Judged {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn schema_name(&self, _: &[Expr]) -> Result<String> {
        Ok(hidden_name(&self.sigma.rule))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let events = RecordBatch::try_new_with_options(Arc::clone(&self.needed), columns, &options)?;
        let judged = (self.sigma.judge)(&events).map_err(DataFusionError::External)?;
        Ok(ColumnarValue::Array(Arc::new(judged)))
    }
}
