//! Hunts that are asked over the API: SQL over the lake, while the service runs.
//!
//! In: questions, the catalog, the sources in force. Out: rows, piece by piece, and what they rest on. Invariants: each hunt has threads of its
//! own, of lower priority than detection's, and memory of its own, and waits for nobody of detection; how many run at once the API
//! bounds; one that nobody reads any more is stopped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::anyhow;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use vedette_api::hunts::{
    Basis, Begun, Column, ColumnSchema, Figures, Form, FunctionSchema, HuntSchema, Hunts, Piece, Question,
    Refusal, SourceSchema, TableSchema, Why,
};
use vedette_decode::all_fields;
use vedette_engine::Compiled;
use vedette_event::{LogSource, Micros};
use vedette_hunt::{
    Answer, Error, FUNCTIONS, Gauge, Ipc, Limits, Query, Rows, Supply, described,
    lake::{Lake, LakeReader},
};
use vedette_store::{Store, model::LakeFile};

use crate::{
    hunt::{describe::meaning, print::Lines, sigma, tables},
    missing,
};

/// What one hunt may use: with as many as the API lets run at once, a gigabyte.
const LIMITS: Limits = Limits {
    memory: 256 << 20,
    disk: 4 << 30,
    folder: None,
    time: Some(Duration::from_secs(60)),
    rows: None,
};
/// Pieces that wait for who takes them.
const AHEAD: usize = 2;
/// Bytes of a piece, but for one row that has more.
const PIECE: usize = 256 << 10;
/// Bytes of a row: more than any record has, and less than texts that a query makes longer and longer.
const MAX_ROW: usize = 16 << 20;
/// Bytes of rows that are kept for a page.
const MAX_KEPT: usize = 16 << 20;
/// Lines at most that say what is missing.
const MAX_MISSING: usize = 20;

/// What hunts are run with.
pub struct Wires {
    /// Reads the lake, what waits for its file included; none where there is none.
    pub lake: Option<LakeReader>,
    /// Where hunts put what does not fit into their memory: beside the store, since the folder of the system may be memory, too.
    pub spill: PathBuf,
    /// The catalog.
    pub store: Store,
    /// What hashes of secrets are keyed with.
    pub secret: [u8; 32],
    /// The sources and rules change.
    pub in_force: watch::Receiver<Arc<Compiled>>,
}

/// What the service knows only once it runs.
pub type Later = Arc<OnceLock<Wires>>;

/// Hunts, by what is put into `later` when the service runs.
pub fn over_the_api(later: &Later) -> Hunts {
    let (asked, described) = (Arc::clone(later), Arc::clone(later));
    Hunts::new(
        move |question| {
            let later = Arc::clone(&asked);
            async move { begin(later, question).await }
        },
        move || schema(ready(&described)?.0),
    )
}

/// Removes what hunts of an ended process left behind.
pub fn clean(spill: &Path) {
    match std::fs::remove_dir_all(spill) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %spill.display(), %error, "what hunts left behind cannot be removed");
        }
        _ => {}
    }
}

fn unavailable(message: &str) -> Refusal {
    Refusal { why: Why::Unavailable, message: message.to_owned(), place: None, pointed: None }
}

fn ready(later: &Later) -> Result<(&Wires, &LakeReader), Refusal> {
    let wires = later.get().ok_or_else(|| unavailable("The service starts; ask again in a moment."))?;
    let lake = wires.lake.as_ref().ok_or_else(|| {
        unavailable("This service keeps no events (`lake: {on: false}`), so there are none to ask.")
    })?;
    Ok((wires, lake))
}

/// Records as they came are for whoever may see them.
fn not_for_you() -> Refusal {
    let message = "`event.original`, the record as it came, needs the permission `originals`, which role engineer has. Leave it out: the other \
                   columns say what the record says."
        .to_owned();
    Refusal { why: Why::Forbidden, message, place: None, pointed: None }
}

/// Begins a hunt on a thread of its own, which tells the rows.
async fn begin(later: Later, question: Question) -> Result<Begun, Refusal> {
    ready(&later)?;
    let (told, begun) = oneshot::channel();
    let runtime = Handle::current();
    let work = move || {
        let Ok(wires) = ready(&later) else { return };
        match ask(wires, &question, &runtime) {
            Ok((answer, begun, out)) => {
                // Who asked may have gone: then the first row finds nobody.
                let _ = told.send(Ok(begun));
                tell(answer, question.form, &out, &question.sql);
            }
            Err(refusal) => {
                let _ = told.send(Err(refusal));
            }
        }
    };
    let spawned = std::thread::Builder::new().name("hunt-rows".to_owned()).spawn(work);
    if let Err(error) = spawned {
        return Err(fault(&anyhow!(error)));
    }
    begun.await.unwrap_or_else(|_| Err(fault(&anyhow!("it panicked; the message is above"))))
}

fn fault(error: &anyhow::Error) -> Refusal {
    tracing::error!("a hunt could not be run: {error:#}");
    let message = "The hunt could not be run; the log says why.".to_owned();
    Refusal { why: Why::Fault, message, place: None, pointed: None }
}

type Asked = (Answer, Begun, mpsc::Sender<Piece>);

/// Understands a question, and begins to answer it.
fn ask(wires: (&Wires, &LakeReader), question: &Question, runtime: &Handle) -> Result<Asked, Refusal> {
    let Question { sql, source, since, until, rows, .. } = question;
    let refuse = |error: Error| refused(error, sql);
    let query = Query::new(sql).map_err(refuse)?.between(*since, *until);
    if query.names_originals() && !question.originals {
        return Err(not_for_you());
    }
    let (wires, reader) = wires;
    let in_force = wires.in_force.borrow().clone();
    let newest = in_force.newest();
    let sources = &newest.sources;
    let source = source.as_deref();
    if let Some(name) = source.filter(|name| sources.find(name).is_none()) {
        let known: Vec<&str> = sources.defs.iter().map(|def| &*def.name).collect();
        let message = format!("There is no source `{name}`; there are: {}.", known.join(", "));
        return Err(Refusal { why: Why::Query, message, place: None, pointed: None });
    }
    let times = (since.unwrap_or(Micros::MIN), until.unwrap_or(Micros::MAX));
    let lake = runtime.block_on(reader.now(source)).map_err(|error| fault(&error.into()))?;
    let rules = || Ok(newest.rules.clone());
    let (mut tables, notes) = runtime
        .block_on(tables::tables(&query, &wires.store, sources, rules))
        .map_err(|error| fault(&error))?;
    let known = (&*newest.rules, "the service has");
    tables.rules = sigma::over_the_lake(&query, known, sources, (&lake, wires.secret)).map_err(|error| {
        let message = format!("{error:#}");
        Refusal { why: Why::Query, message, place: None, pointed: None }
    })?;
    let originals =
        if query.names_originals() { missing::lines_of_originals(lake.missing()) } else { Vec::new() };
    let basis = basis(&lake, notes.into_iter().chain(originals).collect(), times);
    let spill = wires.spill.clone();
    std::fs::create_dir_all(&spill).map_err(|error| fault(&error.into()))?;
    let limits = Limits { rows: Some(*rows), folder: Some(spill), ..LIMITS };
    let columns = tables::columns(sources, source);
    let answer =
        query.ask(columns, Supply::Lake(Box::new(lake.with_tables(tables))), limits).map_err(refuse)?;
    let (out, pieces) = mpsc::channel(AHEAD);
    let (gauge, stopper) = (answer.gauge().clone(), answer.stopper().clone());
    let named = answer.columns().iter().zip(answer.kinds());
    let columns = named.map(|(name, kind)| Column { name: name.clone(), kind: kind.to_owned() });
    let begun = Begun {
        columns: columns.collect(),
        basis,
        pieces,
        figures: Arc::new(move || figures(&gauge)),
        stop: Arc::new(move || stopper.stop()),
    };
    Ok((answer, begun, out))
}

/// What an answer over the lake rests on.
fn basis(lake: &Lake, notes: Vec<String>, (since, until): (Micros, Micros)) -> Basis {
    let mut missing = notes;
    missing.extend(missing::lines(lake.missing()));
    if missing.len() > MAX_MISSING {
        let more = missing.len() - MAX_MISSING;
        missing.truncate(MAX_MISSING);
        missing.push(format!("{more} more such lines (`vedette lake status --format json`)"));
    }
    let within = |file: &&LakeFile| file.latest >= since && file.earliest < until;
    let files: Vec<&LakeFile> = lake.files().iter().filter(within).collect();
    Basis {
        complete_through: lake.through().map(|(time, _)| time),
        reaches_back_to: files.iter().map(|file| file.earliest).min(),
        missing,
        files: files.len() as u64,
        events: files.iter().map(|file| file.events).sum::<u64>() + lake.live_events(),
    }
}

fn figures(gauge: &Gauge) -> Figures {
    let read = gauge.read();
    Figures {
        bytes_read: read.bytes + read.index_bytes,
        files_read: read.files,
        files_skipped: read.files_skipped + read.files_skipped_by_index,
        parts_read: read.groups,
        parts_skipped: read.groups_skipped_by_index
            + read.groups_skipped_by_statistics
            + read.groups_skipped_by_bloom,
    }
}

/// How rows are written.
enum Writer {
    Lines(Lines),
    Arrow(Box<Ipc>),
    Values,
}

/// Tells all rows, as they come and as they are taken.
fn tell(mut answer: Answer, form: Form, out: &mpsc::Sender<Piece>, sql: &str) {
    let last = match told(&mut answer, form, out) {
        Ok(Some(last)) => last,
        // Nobody takes them any more.
        Ok(None) => return,
        Err(error) => Piece::Failed(refused(error, sql)),
    };
    // What it had is given back before anybody hears that it is over.
    drop(answer);
    let _ = out.blocking_send(last);
}

fn told(answer: &mut Answer, form: Form, out: &mpsc::Sender<Piece>) -> Result<Option<Piece>, Error> {
    let arrow = |error| Error::Internal { message: format!("rows have no form in Arrow's stream: {error}") };
    let mut writer = match form {
        Form::Ndjson => Writer::Lines(Lines::ndjson(answer.columns())),
        Form::Csv => Writer::Lines(Lines::csv(answer.columns())),
        Form::Arrow => Writer::Arrow(Box::new(answer.ipc().map_err(arrow)?)),
        Form::Values => Writer::Values,
    };
    let columns = answer.columns().len();
    let mut kept = 0;
    while let Some(rows) = answer.next()? {
        let pieces = pieces_of(&rows)?;
        // Of Arrow's texts each part would bring along all that they share.
        let whole = vec![(0, rows.len())];
        for (from, to) in if form == Form::Arrow { whole } else { pieces } {
            let rows = rows.slice(from, to);
            let piece = match &mut writer {
                Writer::Lines(lines) => {
                    let mut text = String::new();
                    each(&rows, columns, |row| lines.row(&mut text, row.into_iter()));
                    Piece::Written(rows.len(), text.into_bytes())
                }
                Writer::Arrow(ipc) => Piece::Written(rows.len(), ipc.rows(&rows).map_err(arrow)?),
                Writer::Values => {
                    // Whoever takes values keeps all of them.
                    kept += (0..rows.len()).map(|row| rows.weight(row)).sum::<usize>();
                    if kept > MAX_KEPT {
                        return Ok(Some(Piece::End { more: true, written: Vec::new() }));
                    }
                    let mut values = Vec::with_capacity(rows.len());
                    each(&rows, columns, |row| values.push(row));
                    Piece::Values(values)
                }
            };
            if out.blocking_send(piece).is_err() {
                return Ok(None);
            }
        }
    }
    let written = match writer {
        Writer::Lines(lines) => lines.end(),
        Writer::Arrow(ipc) => ipc.end().map_err(arrow)?,
        Writer::Values => Vec::new(),
    };
    Ok(Some(Piece::End { more: answer.more(), written }))
}

/// Does this with the values of each row.
fn each(rows: &Rows, columns: usize, mut with: impl FnMut(Vec<Value>)) {
    let mut columns: Vec<_> = (0..columns).map(|at| rows.column(at)).collect();
    for _ in 0..rows.len() {
        with(columns.iter_mut().map(|column| column.next().unwrap_or_default()).collect());
    }
}

/// Stretches of rows that are told at once, so that what waits to be taken is bounded by its bytes.
fn pieces_of(rows: &Rows) -> Result<Vec<(usize, usize)>, Error> {
    let (mut pieces, mut from, mut bytes) = (Vec::new(), 0, 0);
    for row in 0..rows.len() {
        let weight = rows.weight(row);
        if weight > MAX_ROW {
            return Err(Error::LongRow { bytes: weight, most: MAX_ROW });
        }
        if bytes + weight > PIECE && row > from {
            pieces.push((from, row));
            (from, bytes) = (row, 0);
        }
        bytes += weight;
    }
    pieces.push((from, rows.len()));
    Ok(pieces)
}

/// What went wrong, as the API tells it.
fn refused(error: Error, sql: &str) -> Refusal {
    let why = match &error {
        Error::Memory { .. } | Error::LongRow { .. } => Why::Cost,
        Error::Timeout { .. } => Why::Time,
        Error::Stopped => Why::Stopped,
        Error::Source(_) | Error::Internal { .. } => Why::Fault,
        _ => Why::Query,
    };
    if why == Why::Fault {
        tracing::error!("a hunt broke off: {error}");
    }
    Refusal {
        why,
        message: error.to_string(),
        place: error.place().map(|place| (place.line, place.column)),
        pointed: error.pointed(sql),
    }
}

/// What there is to ask.
fn schema(wires: &Wires) -> Result<HuntSchema, Refusal> {
    let sources = wires.in_force.borrow().newest().sources.clone();
    let mut of: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
    for def in &sources.defs {
        for field in all_fields(def, &sources.fields) {
            of.entry(field).or_default().push(def.name.to_string());
        }
    }
    let columns = tables::columns(&sources, None);
    let all: Vec<String> = sources.defs.iter().map(|def| def.name.to_string()).collect();
    let columns = columns.shown().map(|(name, kind)| ColumnSchema {
        column: Column { name: name.to_owned(), kind: kind.to_owned() },
        description: meaning(&sources.fields, name).to_owned(),
        sources: of.get(name).cloned().unwrap_or_else(|| all.clone()),
    });
    let function = |(name, usage, description): &(&str, &str, &str)| FunctionSchema {
        name: (*name).to_owned(),
        usage: (*usage).to_owned(),
        description: (*description).to_owned(),
    };
    let events = TableSchema {
        name: "events".to_owned(),
        description: "Every event of every source, one a row.".to_owned(),
        columns: columns.collect(),
    };
    let functions = FUNCTIONS.iter().map(function).collect();
    let shown = sources.defs.iter().map(|def| {
        let LogSource { product, category, service } = &def.logsource;
        let said = [("product", product), ("category", category), ("service", service)];
        let said = said.into_iter().filter_map(|(part, said)| Some((part.to_owned(), said.clone()?)));
        SourceSchema {
            name: def.name.to_string(),
            description: def.description.clone(),
            logsource: said.collect(),
        }
    });
    let mut tables = vec![events];
    for (name, description, columns) in described().map_err(|error| fault(&error.into()))? {
        let column = |(name, kind): (String, &str)| ColumnSchema {
            column: Column { name, kind: kind.to_owned() },
            description: String::new(),
            sources: Vec::new(),
        };
        tables.push(TableSchema {
            name: name.to_owned(),
            description: description.to_owned(),
            columns: columns.into_iter().map(column).collect(),
        });
    }
    Ok(HuntSchema { tables, functions, sources: shown.collect() })
}
