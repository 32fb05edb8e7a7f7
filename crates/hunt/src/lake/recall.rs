//! The lake's events come back as the decoder made them.
//!
//! In: record batches of the lake, rows of one partition. Out: where each event is and when it took part ([`Places`]), and an
//! [`EventBatch`] of some fields ([`Restorer`]). Invariant: of the fields that the source's mapping fills, each cell has the kind and the
//! text that it had, but for JSON nulls, which are missing: no rule tells the two apart.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, UInt16Array, UInt32Array,
    cast::AsArray as _,
    types::{
        Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{ArrowError, DataType};
use vedette_event::{
    BatchBuilder, Cell, EventBatch, FieldType, Fields, Flags, Incarnation, Kind, MAX_ROWS, Micros, Partition,
    Projection, SourceIx, cell::number,
};

use super::{CLOCK, INGESTED};
use crate::{
    columns::{CLAIMED, INCARNATION, OFFSET, PARTITION, SCALE, SPELLED, TIME, TOPIC},
    spelled::render,
};

const INDEX: &str = "vedette.index";

/// The columns that say where events are and when; whoever wants them back reads these.
pub const PLACES: [&str; 10] =
    [TOPIC, PARTITION, OFFSET, INDEX, TIME, INGESTED, CLOCK, INCARNATION, CLAIMED, SPELLED];

/// Where the events of a batch are, and when they took part.
#[derive(Debug)]
pub struct Places<'a> {
    topics: &'a StringViewArray,
    incarnations: &'a UInt16Array,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    indexes: &'a UInt32Array,
    times: &'a TimestampMicrosecondArray,
    logs: &'a TimestampMicrosecondArray,
    /// A file has neither of these where no event of it has anything there.
    claims: Option<&'a TimestampMicrosecondArray>,
    clocks: Option<&'a StringViewArray>,
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("{name} is not there")))
}

impl<'a> Places<'a> {
    /// Of a batch that has the columns of [`PLACES`], but for those that are null throughout.
    ///
    /// # Errors
    /// If it does not.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let wrong = |name: &str| ArrowError::SchemaError(format!("{name} is of another type"));
        let time = |name| -> Result<&'a TimestampMicrosecondArray, ArrowError> {
            column(batch, name)?.as_primitive_opt().ok_or_else(|| wrong(name))
        };
        let text = |name| column(batch, name)?.as_string_view_opt().ok_or_else(|| wrong(name));
        Ok(Self {
            topics: text(TOPIC)?,
            incarnations: column(batch, INCARNATION)?.as_primitive_opt().ok_or_else(|| wrong(INCARNATION))?,
            partitions: column(batch, PARTITION)?.as_primitive_opt().ok_or_else(|| wrong(PARTITION))?,
            offsets: column(batch, OFFSET)?.as_primitive_opt().ok_or_else(|| wrong(OFFSET))?,
            indexes: column(batch, INDEX)?.as_primitive_opt().ok_or_else(|| wrong(INDEX))?,
            times: time(TIME)?,
            logs: time(INGESTED)?,
            claims: batch.column_by_name(CLAIMED).map(|_| time(CLAIMED)).transpose()?,
            clocks: batch.column_by_name(CLOCK).map(|_| text(CLOCK)).transpose()?,
        })
    }

    /// How many events.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// The topic, its incarnation and the partition of an event.
    #[must_use]
    pub fn partition(&self, row: usize) -> (&'a str, Incarnation, i32) {
        (self.topics.value(row), self.incarnations.value(row), self.partitions.value(row))
    }

    /// The offset of an event's record, and its number within it.
    #[must_use]
    pub fn offset(&self, row: usize) -> (i64, u32) {
        (self.offsets.value(row), self.indexes.value(row))
    }

    /// When an event took part.
    #[must_use]
    pub fn time(&self, row: usize) -> Micros {
        Micros(self.times.value(row))
    }

    /// When the broker took its record.
    #[must_use]
    pub fn log(&self, row: usize) -> Micros {
        Micros(self.logs.value(row))
    }

    /// What is out of the ordinary about its time. Names that this program does not know are left out.
    #[must_use]
    pub fn flags(&self, row: usize) -> Flags {
        let Some(clocks) = self.clocks.filter(|clocks| clocks.is_valid(row)) else { return Flags::NONE };
        let named = clocks.value(row).split(' ').filter_map(Flags::named);
        named.fold(Flags::NONE, Flags::with)
    }

    /// The time that it claims.
    #[must_use]
    pub fn claimed(&self, row: usize) -> Option<Micros> {
        match self.claims {
            Some(claims) if claims.is_valid(row) => Some(Micros(claims.value(row))),
            _ => (!self.flags(row).has(Flags::CLOCK_MISSING)).then(|| self.time(row)),
        }
    }
}

/// The texts of a column by row, nothing where a row has none; nothing at all if there is no such column.
#[must_use]
pub fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Option<impl Fn(usize) -> Option<&'a str> + use<'a>> {
    let texts = batch.column_by_name(name)?.as_string_view_opt()?;
    Some(move |row: usize| (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row)))
}

/// Makes events of some fields.
#[derive(Debug)]
pub struct Restorer {
    /// Of each field: its name and its declared type.
    fields: Vec<(Arc<str>, Option<FieldType>)>,
    builder: BatchBuilder,
}

impl Restorer {
    /// Of these fields, by their declared types.
    #[must_use]
    pub fn new(projection: Arc<Projection>, declared: &Fields) -> Self {
        let fields = projection.fields().iter().map(|name| (Arc::clone(name), declared.kind(name)));
        Self { fields: fields.collect(), builder: BatchBuilder::new(projection) }
    }

    /// The events of some rows, [`MAX_ROWS`] at most, all of one partition and in the order of their offsets. What `beside` has of a field is
    /// taken from there: its events are numbered as `rows`.
    ///
    /// # Errors
    /// If the batch does not have the columns of [`PLACES`], or one of another type than its field's.
    pub fn restore(
        &mut self,
        batch: &RecordBatch,
        rows: &[u32],
        (source, partition): (SourceIx, Partition),
        beside: Option<&EventBatch>,
    ) -> Result<EventBatch, ArrowError> {
        let places = Places::of(batch)?;
        let rows = rows.get(..MAX_ROWS).unwrap_or(rows);
        self.builder.begin(&vedette_event::Text::default(), rows.len());
        let spelled = texts(batch, SPELLED);
        let columns: Vec<Option<Stored<'_>>> = self
            .fields
            .iter()
            .map(|(name, declared)| {
                let other = beside.and_then(|events| {
                    let at = events.projection().fields().iter().position(|field| field == name)?;
                    events.columns().get(at)
                });
                match (other, &**name) {
                    (Some(column), _) => Ok(Some(Stored::Beside(column))),
                    (None, TIME) => Ok(Some(Stored::Claimed)),
                    (None, name) => {
                        let array = batch.column_by_name(name);
                        array.map(|array| Stored::of(array, *declared)).transpose()
                    }
                }
            })
            .collect::<Result<_, ArrowError>>()?;
        for (number, row) in (0..).zip(rows) {
            let row = *row as usize;
            let written = spelled.as_ref().and_then(|texts| texts(row));
            let written: serde_json::Map<String, serde_json::Value> =
                written.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            for (at, ((name, declared), column)) in self.fields.iter().zip(&columns).enumerate() {
                let said = written.get(&**name).and_then(|text| text.as_str());
                match (said, column) {
                    (Some(text), _) => self.builder.put(at, Cell { kind: kind_of(*declared, text), text }),
                    (None, Some(Stored::Beside(column))) => {
                        self.builder.put(at, column.cell(number as usize))
                    }
                    (None, Some(Stored::Claimed)) => {
                        if let Some(time) = places.claimed(row) {
                            self.builder.put(at, Cell { kind: Kind::Text, text: &time.to_string() });
                        }
                    }
                    (None, Some(column)) => {
                        if let Some((kind, text)) = column.cell(row) {
                            self.builder.put(at, Cell { kind, text: &text });
                        }
                    }
                    (None, None) => {}
                }
            }
            let (offset, index) = places.offset(row);
            self.builder.end_row(offset, index, number, places.claimed(row));
        }
        Ok(self.builder.finish(source, partition))
    }
}

/// What a text is that its column could not hold.
fn kind_of(declared: Option<FieldType>, text: &str) -> Kind {
    match declared {
        None | Some(FieldType::Text | FieldType::Ip | FieldType::Time) => Kind::Text,
        Some(FieldType::List) => Kind::List,
        Some(FieldType::Object) => Kind::Object,
        Some(FieldType::Bool) => Kind::Bool,
        Some(_) if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() => Kind::Int,
        Some(_) => Kind::Float,
    }
}

/// A field's column.
enum Stored<'a> {
    Texts(&'a StringViewArray, Kind),
    U16(&'a UInt16Array),
    U32(&'a UInt32Array),
    U64(&'a arrow_array::UInt64Array),
    I64(&'a Int64Array),
    F64(&'a arrow_array::Float64Array),
    Decimal(&'a arrow_array::Decimal128Array),
    Bool(&'a BooleanArray),
    Time(&'a TimestampMicrosecondArray),
    List(&'a arrow_array::ListArray),
    /// Decoded once more.
    Beside(&'a vedette_event::Column),
    /// The claimed time.
    Claimed,
}

impl<'a> Stored<'a> {
    fn of(array: &'a ArrayRef, declared: Option<FieldType>) -> Result<Self, ArrowError> {
        let kind = if declared == Some(FieldType::Object) { Kind::Object } else { Kind::Text };
        Ok(match array.data_type() {
            DataType::Utf8View => Self::Texts(array.as_string_view(), kind),
            DataType::UInt16 => Self::U16(array.as_primitive::<UInt16Type>()),
            DataType::UInt32 => Self::U32(array.as_primitive::<UInt32Type>()),
            DataType::UInt64 => Self::U64(array.as_primitive::<UInt64Type>()),
            DataType::Int64 => Self::I64(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::F64(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, SCALE) => Self::Decimal(array.as_primitive::<Decimal128Type>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Timestamp(..) => Self::Time(array.as_primitive::<TimestampMicrosecondType>()),
            DataType::List(_) => Self::List(array.as_list()),
            other => return Err(ArrowError::SchemaError(format!("no field is {other}"))),
        })
    }

    /// What the decoder made of it; nothing if it is missing.
    fn cell(&self, row: usize) -> Option<(Kind, Cow<'a, str>)> {
        let whole = |valid: bool, text: &dyn Fn() -> String| valid.then(|| (Kind::Int, Cow::Owned(text())));
        match self {
            Self::Texts(texts, kind) => texts.is_valid(row).then(|| (*kind, Cow::Borrowed(texts.value(row)))),
            Self::U16(numbers) => whole(numbers.is_valid(row), &|| numbers.value(row).to_string()),
            Self::U32(numbers) => whole(numbers.is_valid(row), &|| numbers.value(row).to_string()),
            Self::U64(numbers) => whole(numbers.is_valid(row), &|| numbers.value(row).to_string()),
            Self::I64(numbers) => whole(numbers.is_valid(row), &|| numbers.value(row).to_string()),
            Self::F64(numbers) => {
                let number = numbers.is_valid(row).then(|| numbers.value(row))?;
                let (kind, text) = self::number(&serde_json::to_string(&number).ok()?)?;
                Some((kind, Cow::Owned(text)))
            }
            Self::Decimal(numbers) => numbers.is_valid(row).then(|| {
                let text = decimal(numbers.value(row));
                (kind_of(Some(FieldType::Decimal), &text), Cow::Owned(text))
            }),
            Self::Bool(values) => values
                .is_valid(row)
                .then(|| (Kind::Bool, Cow::Borrowed(if values.value(row) { "true" } else { "false" }))),
            Self::Time(times) => {
                times.is_valid(row).then(|| (Kind::Text, Cow::Owned(Micros(times.value(row)).to_string())))
            }
            Self::List(lists) => lists
                .is_valid(row)
                .then(|| (Kind::List, Cow::Owned(render(lists.value(row).as_string_view())))),
            Self::Beside(_) | Self::Claimed => None,
        }
    }
}

/// A multiple of the smallest decimal as the decoder writes decimals: without a superfluous zero.
fn decimal(value: i128) -> String {
    let unit = 10_u128.pow(u32::from(SCALE.unsigned_abs()));
    let size = value.unsigned_abs();
    let (whole, fraction) = (size / unit, size % unit);
    let sign = if value < 0 { "-" } else { "" };
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:0width$}", width = usize::from(SCALE.unsigned_abs()));
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}
