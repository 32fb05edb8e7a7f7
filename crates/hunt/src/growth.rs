//! What makes much of little is bounded: texts and lists that a query makes longer and longer, and events that a window keeps.
//!
//! In: the functions and the plan of a query. Out: the same, which refuse what no pool of memory would count before it is there. Invariants: within
//! the bounds a result is what it would be without them; a function knows before it begins how much its result can be.

use std::{fmt, sync::Arc};

use arrow_array::{Array, StringViewArray, cast::AsArray as _};
use arrow_schema::{DataType, FieldRef};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        resources_err,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable as _, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, Volatility, cast,
        expr::ScalarFunction,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
        replace_children_if_necessary, stream::RecordBatchStreamAdapter, windows::WindowAggExec,
    },
    sql::sqlparser::ast::BinaryOperator,
};
use futures::StreamExt as _;

/// Bytes that one function may make of one batch.
const MOST: usize = 32 << 20;

/// How much a function can make of what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// As much as all of it together.
    Sum,
    /// The second argument, wherever it is found in the first, becomes the third.
    Replaced,
}

/// Functions whose results can be longer than each of their arguments.
const GROWING: [(&str, Growth); 13] = [
    ("concat", Growth::Sum),
    ("concat_ws", Growth::Sum),
    ("overlay", Growth::Sum),
    ("replace", Growth::Replaced),
    ("regexp_replace", Growth::Replaced),
    ("array_to_string", Growth::Sum),
    ("make_array", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_union", Growth::Sum),
    ("array_insert", Growth::Sum),
    ("array_replace_all", Growth::Sum),
];

/// A function of DataFusion, bounded.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

/// Those of these functions that grow, bounded.
pub(crate) fn bounded<'a>(find: impl Fn(&str) -> Option<&'a Arc<ScalarUDF>>) -> Vec<ScalarUDF> {
    let all = GROWING.iter().filter_map(|(name, growth)| {
        let inner = Arc::clone(find(name)?);
        Some(ScalarUDF::from(Bounded { inner, growth: *growth }))
    });
    all.collect()
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = match self.growth {
            Growth::Sum => args.args.iter().map(|value| size(value, args.number_rows)).sum(),
            Growth::Replaced => replaced(&args, self.inner.name() == "regexp_replace"),
        };
        allow(bytes)?;
        self.inner.invoke_with_args(args)
    }
}

fn allow(bytes: usize) -> Result<()> {
    if bytes > MOST {
        return resources_err!(
            "a function would make {bytes} bytes of texts or lists at once, more than {MOST}"
        );
    }
    Ok(())
}

/// Bytes of a value, in each row.
fn size(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => bytes(array),
        ColumnarValue::Scalar(scalar) => {
            scalar.to_array().map_or(0, |array| bytes(&array)).saturating_mul(rows)
        }
    }
}

/// Bytes of an array's values, as they would be copied.
fn bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().iter().flatten().map(|text| 16 + text.len()).sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, to) = (list.offsets().first(), list.offsets().last());
            let (from, to) = (from.copied().unwrap_or(0) as usize, to.copied().unwrap_or(0) as usize);
            8 * list.len() + bytes(&list.values().slice(from, to.saturating_sub(from)))
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// What replacing can make at most: as often as what is looked for fits into the texts, what takes its place, which may name what was found.
fn replaced(args: &ScalarFunctionArgs, regular: bool) -> usize {
    let [text, wanted, with, ..] = &args.args[..] else { return 0 };
    let constant = |value: &ColumnarValue| match value {
        ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten().map(str::to_owned),
        ColumnarValue::Array(_) => None,
    };
    let texts = size(text, args.number_rows).saturating_add(args.number_rows);
    let shortest = constant(wanted).filter(|_| !regular).map_or(1, |wanted| wanted.len().max(1));
    let (longest, named) = match constant(with) {
        Some(with) => (with.len(), if regular { with.matches(['\\', '$']).count() } else { 0 }),
        None => (longest(with), if regular { longest(with) } else { 0 }),
    };
    texts
        .saturating_add((texts / shortest).saturating_mul(longest))
        .saturating_add(texts.saturating_mul(named))
}

/// Bytes of the longest of some texts.
fn longest(value: &ColumnarValue) -> usize {
    match value {
        ColumnarValue::Array(array) => array
            .as_string_view_opt()
            .map_or(usize::MAX, |texts| texts.iter().flatten().map(str::len).max().unwrap_or(0)),
        ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten().map_or(0, str::len),
    }
}

/// `||` between texts, with null where one is null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined(Signature);

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        "joined"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        allow(args.args.iter().map(|value| size(value, rows)).sum())?;
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [first, second] = &arrays[..] else { return resources_err!("`||` takes two values") };
        let (first, second) = (first.as_string_view(), second.as_string_view());
        let joined: StringViewArray = first
            .iter()
            .zip(second)
            .map(|pair| match pair {
                (Some(first), Some(second)) => Some([first, second].concat()),
                _ => None,
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(joined)))
    }
}

/// Has operators and literals be those that are bounded.
#[derive(Debug)]
pub(crate) struct Planner {
    joined: Arc<ScalarUDF>,
    make_array: Option<Arc<ScalarUDF>>,
}

impl Planner {
    /// With the function that makes lists.
    pub(crate) fn new(make_array: Option<Arc<ScalarUDF>>) -> Self {
        let signature = Signature::exact(vec![DataType::Utf8View; 2], Volatility::Immutable);
        let make_array =
            make_array.map(|inner| Arc::new(ScalarUDF::from(Bounded { inner, growth: Growth::Sum })));
        Self { joined: Arc::new(ScalarUDF::from(Joined(signature))), make_array }
    }
}

impl ExprPlanner for Planner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &datafusion::common::DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_list = |expr: &Expr| expr.get_type(schema).is_ok_and(|kind| kind.is_nested());
        if expr.op != BinaryOperator::StringConcat || is_list(&expr.left) || is_list(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let text = |expr: Expr| cast(expr, DataType::Utf8View);
        let args = vec![text(expr.left), text(expr.right)];
        let call = ScalarFunction::new_udf(Arc::clone(&self.joined), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_array_literal(
        &self,
        exprs: Vec<Expr>,
        _: &datafusion::common::DFSchema,
    ) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(match &self.make_array {
            Some(make) => {
                let call = ScalarFunction::new_udf(Arc::clone(make), exprs);
                PlannerResult::Planned(Expr::ScalarFunction(call))
            }
            None => PlannerResult::Original(exprs),
        })
    }
}

/// Has a window ask for the memory of what it keeps, which is all of its input.
#[derive(Debug)]
pub(crate) struct CountWindows;

impl PhysicalOptimizerRule for CountWindows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|plan| {
            if !plan.is::<WindowAggExec>() {
                return Ok(Transformed::no(plan));
            }
            let inputs = plan.children().into_iter().map(|input| {
                let (input, properties) = (Arc::clone(input), Arc::clone(input.properties()));
                let kept: Arc<dyn ExecutionPlan> = Arc::new(Kept { input, properties });
                kept
            });
            let inputs = inputs.collect();
            Ok(Transformed::yes(replace_children_if_necessary(plan, inputs)?))
        });
        counted.map(|counted| counted.data)
    }

    fn name(&self) -> &str {
        "count_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Passes on batches, which whoever takes them keeps.
#[derive(Debug)]
struct Kept {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for Kept {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl ExecutionPlan for Kept {
    fn name(&self) -> &str {
        "Kept"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("no input".to_owned()))?;
        let properties = Arc::clone(input.properties());
        Ok(Arc::new(Self { input, properties }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let kept = MemoryConsumer::new("window").register(context.memory_pool());
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let counted = input.map(move |batch| {
            let batch = batch?;
            kept.try_grow(batch.columns().iter().map(|column| bytes(column)).sum())?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }
}
