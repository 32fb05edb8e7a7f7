//! A query is run: read-only, within bounds, on a thread of its own.
//!
//! In: [`Query`], the columns, who has the events, [`Limits`]. Out: [`Answer`].
//! Invariants: there is no table but `events` and no object store but the lake's, so that neither another file nor the network is in reach;
//! what does not fit into the memory goes into a folder that is removed with the query; planning, which calls itself, has a
//! stack that the bounds of [`Query`] fit into many times; rows come in one order, the same each time, since one thread makes them.

use std::{
    fmt::Debug,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use datafusion::{
    catalog::{MemTable, TableProvider},
    common::{Column, TableReference},
    error::{DataFusionError, Result},
    execution::{
        SendableRecordBatchStream, SessionStateBuilder, SessionStateDefaults,
        context::{SQLOptions, SessionContext},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        object_store::ObjectStoreRegistry,
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::{Expr, LogicalPlan},
    object_store::ObjectStore,
    physical_plan::execute_stream,
    prelude::{DataFrame, SessionConfig, ident, lit},
    scalar::ScalarValue,
};
use futures::StreamExt as _;
use tokio::sync::mpsc::{Sender, channel};
use url::Url;
use vedette_event::Micros;

use crate::{
    answer::{Answer, Stopper},
    columns::{Columns, TIME, is_hidden},
    error::{Context, Error, explain},
    functions,
    gauge::Gauge,
    growth::{self, CountWindows, Planner},
    lake::{Finder, Lake, LakeTable, PLACE, TakeFirst, named_original, with_originals},
    query::Query,
    sigma::with_rules,
    table::{Events, Supply},
    yielding::GiveWay,
};

/// The stack of a query's thread; only what is used of it is memory. The deepest queries within the bounds take a tenth.
const STACK: usize = 256 << 20;
/// How much lower than usual the priority of a query's thread is.
const NICE: i32 = 10;
/// Batches that wait to be taken.
const AHEAD: usize = 2;
/// Rows that are worked on at once where a query names originals.
const WITH_ORIGINALS: usize = 1_024;
/// How many consumers of memory an error names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN;

/// Functions of DataFusion that make much of little, in memory that nobody counts, or that nobody needs over logs.
const REMOVED: [&str; 9] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "generate_series",
    "range",
];

/// What a query may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory for what it keeps (groups, rows to be sorted, one side of a join).
    pub memory: usize,
    /// Bytes on the disk for what does not fit.
    pub disk: u64,
    /// The folder for that, which must be there; that of the system without.
    pub folder: Option<PathBuf>,
    /// How long it may take; for ever without.
    pub time: Option<Duration>,
    /// How many rows it may give; all without.
    pub rows: Option<usize>,
}

impl Default for Limits {
    /// 512 MiB, 16 GiB on the disk, as long and as many as it takes.
    fn default() -> Self {
        Self { memory: 512 << 20, disk: 16 << 30, folder: None, time: None, rows: None }
    }
}

impl Query {
    /// Begins to answer it. Returns once it is understood, before the first event is read; waits for that, on no thread of a runtime.
    ///
    /// # Errors
    /// If it is no question that these columns can answer.
    pub fn ask(self, columns: Columns, from: Supply, limits: Limits) -> Result<Answer, Error> {
        let (told, mut heads) = channel(1);
        let (out, rows) = channel(AHEAD);
        let left = limits.rows.unwrap_or(usize::MAX);
        let stopper = Stopper::default();
        let stopped = stopper.clone();
        let work = move || {
            // What waits for nobody goes before it. Where that cannot be had, it is not worth an error.
            let _ = rustix::process::nice(NICE);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            match runtime {
                Ok(runtime) => {
                    let finder = match &from {
                        Supply::Lake(lake) if self.names_originals() => Some(Arc::new(lake.finder())),
                        _ => None,
                    };
                    let run = Run { query: self, columns, from, limits, stopped, finder };
                    runtime.block_on(run.run(told, out));
                }
                Err(error) => {
                    let _ = told.blocking_send(Err(Error::Internal { message: error.to_string() }));
                }
            }
        };
        let thread = thread::Builder::new().name("hunt".to_owned()).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|error| Error::Internal { message: error.to_string() })?;
        let (schema, gauge) = (Arc::new(Schema::empty()), Gauge::NONE);
        let (columns, thread) = (Vec::new(), Some(thread));
        let mut answer = Answer { columns, schema, gauge, stopper, rows, thread, left, more: false };
        match heads.blocking_recv() {
            Some(heads) => {
                let (schema, gauge) = heads?;
                answer.columns = schema.fields().iter().map(|field| field.name().clone()).collect();
                (answer.schema, answer.gauge) = (schema, gauge);
            }
            None => {
                answer.stop()?;
                return Err(Error::Internal { message: "it ended without an answer".to_owned() });
            }
        }
        Ok(answer)
    }
}

/// A query under way.
struct Run {
    query: Query,
    columns: Columns,
    from: Supply,
    limits: Limits,
    stopped: Stopper,
    /// What finds originals, if the query names them.
    finder: Option<Arc<Finder>>,
}

/// What is known before the first row.
type Head = (SchemaRef, Gauge);

impl Run {
    async fn run(self, told: Sender<Result<Head, Error>>, out: Sender<Result<RecordBatch, Error>>) {
        let began = Instant::now();
        let session = match session(&self.limits, &self.from, self.finder.is_some()) {
            Ok(session) => session,
            Err(error) => {
                let _ = told.send(Err(Error::Internal { message: error.to_string() })).await;
                return;
            }
        };
        let end = self.limits.time.map(|time| tokio::time::Instant::from_std(began + time));
        let late = || Error::Timeout { seconds: self.limits.time.unwrap_or_default().as_secs() };
        // What is asked of indexes comes before the first row, too.
        let begun = tokio::select! {
            biased;
            () = self.stopped.0.notified() => Err(Error::Stopped),
            () = until(end) => Err(late()),
            begun = self.begin(&session) => begun,
        };
        let (mut stream, gauge) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _ = told.send(Err(error)).await;
                return;
            }
        };
        if told.send(Ok((stream.schema(), gauge))).await.is_err() {
            return;
        }
        let given = async {
            loop {
                let sent = match stream.next().await {
                    None => return,
                    Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                    Some(Ok(batch)) => out.send(Ok(batch)).await,
                    Some(Err(error)) => {
                        let _ = out.send(Err(self.explain(&session, error))).await;
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        };
        let ended = tokio::select! {
            biased;
            () = out.closed() => return,
            () = self.stopped.0.notified() => Error::Stopped,
            () = until(end) => late(),
            () = given => return,
        };
        // Who takes rows slowly is told with the next ones, and who takes none holds nothing but this.
        drop(stream);
        let _ = out.send(Err(ended)).await;
    }

    /// Understands the query, and begins to run it.
    async fn begin(&self, session: &SessionContext) -> Result<(SendableRecordBatchStream, Gauge), Error> {
        let statement = self.query.statement(&self.columns)?;
        let planned = async {
            session.register_table("events", self.between(session, self.events())?)?;
            self.others(session)?;
            let plan = session.state().statement_to_plan(statement).await?;
            let options =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            options.verify_plan(&plan)?;
            let explained = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
            let mut frame = DataFrame::new(session.state(), plan);
            if !explained {
                frame = without_hidden(frame)?;
                if let Some(rows) = self.limits.rows {
                    // One more tells whether there are more.
                    frame = frame.limit(0, Some(rows.saturating_add(1)))?;
                }
            }
            let context = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await?;
            let gauge = Gauge::of(&plan, self.finder.clone());
            Ok((execute_stream(plan, context)?, gauge))
        };
        planned.await.map_err(|error| self.explain(session, error))
    }

    /// Tables beside `events`. What is called as one that is there already has none.
    fn others(&self, session: &SessionContext) -> Result<()> {
        let Supply::Lake(lake) = &self.from else { return Ok(()) };
        for (name, rows) in &lake.tables.rows {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]])?;
            session.register_table(*name, Arc::new(table))?;
        }
        for (source, columns) in &lake.tables.sources {
            // As a name in quotes, which a point or a dash in it needs.
            let name = TableReference::bare(source.as_str());
            if session.table_exist(name.clone())? {
                continue;
            }
            let (lake, schema) = (lake.of_source(source), Arc::clone(columns.schema()));
            let of_source = self.between(session, Arc::new(LakeTable { lake, schema }))?;
            session.register_table(name, of_source)?;
        }
        Ok(())
    }

    fn events(&self) -> Arc<dyn TableProvider> {
        match &self.from {
            Supply::Given(open) => Arc::new(Events { columns: self.columns.clone(), open: Arc::clone(open) }),
            Supply::Lake(lake) => {
                let schema = Arc::clone(self.columns.schema());
                Arc::new(LakeTable { lake: (**lake).clone(), schema })
            }
        }
    }

    /// Those events that are of the times that are asked of, with the columns of rules.
    fn between(
        &self,
        session: &SessionContext,
        events: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>> {
        let time = || ident(TIME);
        let moment = |at: Micros| lit(ScalarValue::TimestampMicrosecond(Some(at.0), Some("UTC".into())));
        let (from, until) = self.query.times;
        let bounds =
            [from.map(|from| time().gt_eq(moment(from))), until.map(|until| time().lt(moment(until)))];
        let bounds = bounds.into_iter().flatten().reduce(Expr::and);
        let rules = match &self.from {
            Supply::Lake(lake) => &lake.tables.rules[..],
            // Who gives events has columns of rules among them.
            Supply::Given(_) => &[],
        };
        if bounds.is_none() && rules.is_empty() && self.finder.is_none() {
            return Ok(events);
        }
        let mut frame = session.read_table(events)?;
        if let Some(bounds) = bounds {
            frame = frame.filter(bounds)?;
        }
        frame = with_rules(frame, rules)?;
        if let Some(finder) = &self.finder {
            frame = with_originals(frame, finder)?;
        }
        Ok(frame.into_view())
    }

    fn explain(&self, session: &SessionContext, error: DataFusionError) -> Error {
        let columns: Vec<&str> = self.columns.shown().map(|(name, _)| name).collect();
        let state = session.state();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let mut functions: Vec<&str> =
            names.chain(state.window_functions().keys()).map(String::as_str).collect();
        functions.sort_unstable();
        let place_of = |name: &str| self.query.place_of(name);
        let memory = self.limits.memory;
        explain(error, &Context { place_of: &place_of, columns: &columns, functions: &functions, memory })
    }
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Without the columns of rules, which `*` brings along.
fn without_hidden(frame: DataFrame) -> Result<DataFrame> {
    if !frame.schema().fields().iter().any(|field| is_hidden(field.name())) {
        return Ok(frame);
    }
    let shown = frame.schema().iter().filter(|(_, field)| !is_hidden(field.name()));
    let shown: Vec<Expr> = shown.map(|of| Expr::Column(Column::from(of))).collect();
    frame.select(shown)
}

/// A session that reaches nothing.
fn session(limits: &Limits, from: &Supply, originals: bool) -> Result<SessionContext> {
    let lake = match from {
        Supply::Given(_) => None,
        Supply::Lake(lake) => Some((**lake).clone()),
    };
    let place = limits.folder.clone().map_or(DiskManagerMode::OsTmpDirectory, |folder| {
        // It makes a folder of its own there, and removes it.
        DiskManagerMode::Directories(vec![folder])
    });
    let disk = DiskManagerBuilder::default().with_mode(place).with_max_temp_directory_size(limits.disk);
    let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory), NAMED_CONSUMERS);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(Arc::new(pool))
        .with_object_store_registry(Arc::new(OneStore(lake)))
        .build_arc()?;
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    if originals {
        // Of each row a record of up to a mebibyte is looked for.
        config = config.with_batch_size(WITH_ORIGINALS);
    }
    let execution = &mut config.options_mut().execution;
    execution.enable_recursive_ctes = false;
    execution.sort_spill_reservation_bytes = (limits.memory / 8).min(10 << 20);
    let known = SessionStateDefaults::default_scalar_functions();
    let find = |name: &str| known.iter().find(|function| function.name() == name);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        // Before those that there are by default.
        .with_expr_planners(vec![Arc::new(Planner::new(find("make_array").cloned()))])
        .with_default_features()
        .with_optimizer_rule(Arc::new(TakeFirst))
        .with_physical_optimizer_rule(Arc::new(CountWindows))
        .with_physical_optimizer_rule(Arc::new(GiveWay))
        .build();
    let session = SessionContext::new_with_state(state);
    for name in REMOVED {
        session.deregister_udf(name);
        session.deregister_udtf(name);
    }
    for function in growth::bounded(find) {
        session.register_udf(function);
    }
    if originals {
        session.register_udf(named_original());
    }
    for function in functions::all() {
        session.register_udf(function.as_ref().clone());
    }
    Ok(session)
}

/// There is no object store but the lake's, where that is asked: also not that of the local disk, which DataFusion has by default.
#[derive(Debug)]
struct OneStore(Option<Lake>);

impl ObjectStoreRegistry for OneStore {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match &self.0 {
            Some(lake) if url.as_str() == PLACE => Ok(Arc::clone(&lake.store)),
            _ => Err(DataFusionError::Plan(format!("table '{url}' not found"))),
        }
    }
}
