//! What a query answers: names of columns, then rows, as they come.
//!
//! In: record batches. Out: [`Answer`], and values that anybody can write down ([`serde_json::Value`]).
//! Invariants: a number stays exact (what JSON cannot hold exactly, decimals, is a text); times are RFC 3339 in UTC; an answer that was
//! cut says so ([`Answer::more`]); one that broke off ends with an error, never in silence.

use std::{sync::Arc, thread::JoinHandle};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray as _,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{ArrowError, DataType, SchemaRef, TimeUnit};
use datafusion::arrow::{
    buffer::Buffer,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc::Receiver};
use vedette_event::Micros;

use crate::{error::Error, gauge::Gauge};

/// The answer to a query. Dropping it stops the query.
pub struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) schema: SchemaRef,
    pub(crate) gauge: Gauge,
    pub(crate) stopper: Stopper,
    pub(crate) rows: Receiver<Result<RecordBatch, Error>>,
    pub(crate) thread: Option<JoinHandle<()>>,
    /// How many rows may still be given.
    pub(crate) left: usize,
    pub(crate) more: bool,
}

/// Stops a query from another thread than the one that takes its rows: what comes then is [`Error::Stopped`].
#[derive(Debug, Clone, Default)]
pub struct Stopper(pub(crate) Arc<Notify>);

impl Stopper {
    /// Stops it, if it still runs.
    pub fn stop(&self) {
        // One who waits is woken, and one who is yet to wait does not.
        self.0.notify_one();
    }
}

/// Some rows of an answer.
#[derive(Debug, Clone)]
pub struct Rows(RecordBatch);

impl Answer {
    /// The names of the columns. Two may be called the same.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// What each column holds, in the words of [`Columns::shown`](crate::Columns::shown).
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.schema.fields().iter().map(|field| kind(field.data_type()))
    }

    /// What it reads, to be looked at from anywhere.
    #[must_use]
    pub const fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// What stops it from anywhere.
    #[must_use]
    pub const fn stopper(&self) -> &Stopper {
        &self.stopper
    }

    /// What writes its rows as an Arrow IPC stream.
    ///
    /// # Errors
    /// If Arrow has no form for a column.
    pub fn ipc(&self) -> Result<Ipc, ArrowError> {
        StreamWriter::try_new(Vec::new(), &self.schema).map(Ipc)
    }

    /// The next rows; nothing at the end. Waits for them, on no thread of a runtime.
    ///
    /// # Errors
    /// Why there will be no more, though there should be.
    #[allow(clippy::should_implement_trait, reason = "it is asked for more than rows")]
    pub fn next(&mut self) -> Result<Option<Rows>, Error> {
        if self.more {
            return Ok(None);
        }
        let Some(batch) = self.rows.blocking_recv() else {
            self.stop()?;
            return Ok(None);
        };
        let batch = batch?;
        let rows = batch.num_rows().min(self.left);
        self.more = batch.num_rows() > self.left;
        self.left -= rows;
        Ok(Some(Rows(batch.slice(0, rows))))
    }

    /// Whether there are more rows than were given.
    #[must_use]
    pub const fn more(&self) -> bool {
        self.more
    }

    /// Stops the query, if it still runs, and waits until all it had is given back, on the disk too.
    ///
    /// # Errors
    /// If it broke down.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.rows.close();
        while self.rows.try_recv().is_ok() {}
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| Error::Internal { message: "it broke down; the message is above".to_owned() })
    }
}

impl Rows {
    /// Of a batch.
    #[cfg(test)]
    pub(crate) const fn of(batch: RecordBatch) -> Self {
        Self(batch)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    /// Those from the one until before the other, of those that there are.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let (from, to) = (from.min(self.len()), to.min(self.len()));
        Self(self.0.slice(from, to.saturating_sub(from)))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the values of a row are, about, as text; found without writing them down.
    #[must_use]
    pub fn weight(&self, row: usize) -> usize {
        self.0.columns().iter().map(|column| weight(column.as_ref(), row)).sum()
    }

    /// The values of a column, row by row; none if there is no such column.
    pub fn column(&self, at: usize) -> impl Iterator<Item = Value> {
        let column = self.0.columns().get(at);
        let rows = if column.is_some() { self.len() } else { 0 };
        (0..rows).map(move |row| column.map_or(Value::Null, |column| value(column.as_ref(), row)))
    }

    /// The rows as Arrow has them.
    #[must_use]
    pub const fn arrow(&self) -> &RecordBatch {
        &self.0
    }
}

/// Rows as an Arrow IPC stream, piece by piece.
pub struct Ipc(StreamWriter<Vec<u8>>);

impl Ipc {
    /// Some rows; the first ones have what describes all before them.
    ///
    /// # Errors
    /// If Arrow cannot write them.
    pub fn rows(&mut self, rows: &Rows) -> Result<Vec<u8>, ArrowError> {
        self.0.write(&rows.0)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// The end, without which an answer is not whole.
    ///
    /// # Errors
    /// If Arrow cannot write it.
    pub fn end(mut self) -> Result<Vec<u8>, ArrowError> {
        self.0.finish()?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

/// An Arrow IPC stream as it comes, which becomes rows again.
#[derive(Debug, Default)]
pub struct Received {
    decoder: StreamDecoder,
    columns: Vec<String>,
}

impl Received {
    /// The rows that are whole with these bytes.
    ///
    /// # Errors
    /// If it is no such stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Rows>, ArrowError> {
        let (mut rows, mut left) = (Vec::new(), Buffer::from(bytes));
        while !left.is_empty() {
            let Some(batch) = self.decoder.decode(&mut left)? else { continue };
            rows.push(Rows(batch));
        }
        if let Some(schema) = self.decoder.schema().filter(|_| self.columns.is_empty()) {
            self.columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        }
        Ok(rows)
    }

    /// The names of the columns, once they have come.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// What a type of Arrow holds, for people.
pub(crate) fn kind(of: &DataType) -> &'static str {
    match of {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "i32",
        DataType::Int64 => "i64",
        DataType::UInt8 | DataType::UInt16 => "u16",
        DataType::UInt32 => "u32",
        DataType::UInt64 => "u64",
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "f64",
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "decimal",
        DataType::Timestamp(..) => "time",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) => {
            "list"
        }
        DataType::Struct(_) | DataType::Map(..) => "object",
        _ => "text",
    }
}

/// One value.
fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Micros(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string().into()
        }
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let members = columns.map(|(field, column)| (field.name().clone(), value(column.as_ref(), row)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let text = written(array, row);
            let short =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            short.into()
        }
        _ => written(array, row).into(),
    }
}

/// How many bytes a value is, about, as text.
fn weight(array: &dyn Array, row: usize) -> usize {
    /// Of a number or a time.
    const SMALL: usize = 16;
    if array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        DataType::List(_) => all_weight(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => all_weight(array.as_list::<i64>().value(row).as_ref()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| weight(column.as_ref(), row)).sum()
        }
        _ => SMALL,
    }
}

fn all_weight(elements: &dyn Array) -> usize {
    (0..elements.len()).map(|row| 2 + weight(elements, row)).sum()
}

fn list(elements: &dyn Array) -> Value {
    (0..elements.len()).map(|row| value(elements, row)).collect::<Vec<_>>().into()
}

/// JSON has no infinity.
fn float(number: f64) -> Value {
    if number.is_finite() { number.into() } else { number.to_string().into() }
}

/// As Arrow writes it.
fn written(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options);
    formatter.map_or_else(|error| error.to_string(), |formatter| formatter.value(row).to_string())
}
