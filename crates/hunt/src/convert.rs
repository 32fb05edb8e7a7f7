//! Events as the decoder makes them become events as the table has them: texts become what their fields are declared to be.
//!
//! In: [`EventBatch`]es, where they came from, and which rules matched. Out: record batches of the wanted columns.
//! Invariants: the arrays of text columns are shared, never copied; a value that is not of its column's type is null and counted,
//! and nothing else is; row `n` of a batch stays row `n`.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringViewArray, TimestampMicrosecondArray, UInt16Array, UInt32Array,
    builder::{BooleanBuilder, ListBuilder, PrimitiveBuilder, StringViewBuilder},
    cast::AsArray as _,
    types::{
        ArrowPrimitiveType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt16Type,
        UInt32Type, UInt64Type,
    },
};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use serde_json::value::RawValue;
use vedette_event::{EventBatch, FieldType, Kind, Micros, Projection, cell::number};

use crate::{
    columns::{Column, Columns, Content, PRECISION, SCALE, time_type},
    spelled::Spelled,
};

/// Where events came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The source's name.
    pub source: Arc<str>,
    /// The topic's name, or that of the file.
    pub topic: Arc<str>,
    /// The partition's number, or that of the file.
    pub partition: i32,
}

/// Makes batches of some columns of a table, one after another.
#[derive(Debug, Clone)]
pub struct Converter {
    columns: Vec<Column>,
    schema: SchemaRef,
    typed: bool,
    /// The projection of the batch before, and where in it each column's field is.
    places: Option<(Arc<Projection>, Vec<Option<usize>>)>,
    refused: u64,
}

impl Converter {
    /// Of the columns with these numbers, in this order.
    pub(crate) fn new(columns: &Columns, wanted: &[usize]) -> Result<Self, ArrowError> {
        let schema = Arc::new(columns.schema().project(wanted)?);
        let columns_of = wanted.iter().filter_map(|at| columns.get(*at)).cloned().collect();
        Ok(Self { columns: columns_of, schema, typed: columns.typed(), places: None, refused: 0 })
    }

    /// The fields that have to be decoded for it.
    pub fn fields(&self) -> impl Iterator<Item = &Arc<str>> {
        let fields = self.columns.iter().filter(|column| matches!(column.content, Content::Field(_)));
        fields.map(|column| &column.name)
    }

    /// The numbers of the rules whose matches are asked for, of those that the table was made with.
    pub fn rules(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().filter_map(|column| match column.content {
            Content::Rule(number) => Some(number),
            _ => None,
        })
    }

    /// How many values so far were not of their column's type.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The columns of these events. `matches` says of a rule which rows it matches, as sorted numbers; nobody asks it of another
    /// rule than those of [`Converter::rules`].
    ///
    /// # Errors
    /// If Arrow takes the arrays for no batch of the schema, which would be a defect here.
    pub fn convert(
        &mut self,
        events: &EventBatch,
        from: &Origin,
        matches: impl Fn(usize) -> Vec<u32>,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = events.rows();
        let places = self.places_in(events.projection());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut spelled = Spelled::new(&self.columns, self.typed);
        for (column, place) in self.columns.iter().zip(places) {
            let array: ArrayRef = match column.content {
                Content::Source => same(&from.source, rows),
                Content::Topic => same(&from.topic, rows),
                Content::Partition => Arc::new(Int32Array::from_value(from.partition, rows)),
                Content::Offset => Arc::new(Int64Array::from(events.offsets().to_vec())),
                Content::Index => Arc::new(UInt32Array::from(events.indexes().to_vec())),
                Content::Time => {
                    let times = (0..rows).map(|row| events.claimed(row).map(|time| time.0));
                    let times: TimestampMicrosecondArray = times.collect();
                    Arc::new(times.with_data_type(time_type()))
                }
                // Known to whoever places the events.
                Content::Incarnation => Arc::new(UInt16Array::from_value(0, rows)),
                Content::Claimed => arrow_array::new_null_array(&time_type(), rows),
                // Of all columns, once they are there.
                Content::Spelled => arrow_array::new_null_array(&DataType::Utf8View, rows),
                Content::Rule(number) => Arc::new(marks(rows, &matches(number))),
                Content::Field(declared) => {
                    let cells = Cells { events, place, typed: self.typed };
                    let array = cells.array(declared, &mut self.refused);
                    if let Some(texts) = place.and_then(|at| events.texts(at)) {
                        spelled.look(&column.name, texts.as_string_view(), &array, declared);
                    }
                    array
                }
            };
            arrays.push(array);
        }
        if let Some((at, array)) = spelled.finish(rows)
            && let Some(place) = arrays.get_mut(at)
        {
            *place = array;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }

    /// Where in a projection each column's field is.
    fn places_in(&mut self, projection: &Arc<Projection>) -> Vec<Option<usize>> {
        if let Some((known, places)) = &self.places
            && Arc::ptr_eq(known, projection)
        {
            return places.clone();
        }
        let place = |column: &Column| projection.fields().iter().position(|field| *field == column.name);
        let places: Vec<_> = self.columns.iter().map(place).collect();
        self.places = Some((Arc::clone(projection), places.clone()));
        places
    }
}

fn same(text: &str, rows: usize) -> ArrayRef {
    let mut texts = StringViewBuilder::with_capacity(rows).with_deduplicate_strings();
    (0..rows).for_each(|_| texts.append_value(text));
    Arc::new(texts.finish())
}

fn marks(rows: usize, matched: &[u32]) -> BooleanArray {
    let mut marks = vec![false; rows];
    for row in matched {
        if let Some(mark) = marks.get_mut(*row as usize) {
            *mark = true;
        }
    }
    BooleanArray::from(marks)
}

/// The cells of one field.
struct Cells<'a> {
    events: &'a EventBatch,
    /// Where the field is; nothing if it was not decoded, so that all is missing.
    place: Option<usize>,
    typed: bool,
}

impl Cells<'_> {
    fn array(&self, declared: Option<FieldType>, refused: &mut u64) -> ArrayRef {
        let texts = self.place.and_then(|at| self.events.texts(at));
        let Some(shared) = texts else {
            return arrow_array::new_null_array(&crate::columns::arrow_type(declared), self.events.rows());
        };
        let texts = shared.as_string_view();
        match declared {
            None | Some(FieldType::Text | FieldType::Object) => Arc::clone(shared),
            Some(FieldType::Ip) if self.typed => Arc::clone(shared),
            Some(FieldType::Ip) => addresses(texts, refused),
            Some(FieldType::U16) => numbers::<UInt16Type>(texts, refused, |t| t.parse().ok()),
            Some(FieldType::U32) => numbers::<UInt32Type>(texts, refused, |t| t.parse().ok()),
            Some(FieldType::U64) => numbers::<UInt64Type>(texts, refused, |t| t.parse().ok()),
            Some(FieldType::I64) => numbers::<Int64Type>(texts, refused, |t| t.parse().ok()),
            Some(FieldType::F64) => numbers::<Float64Type>(texts, refused, finite),
            Some(FieldType::Decimal) => decimals(texts, refused),
            Some(FieldType::Bool) => booleans(texts, refused),
            Some(FieldType::Time) => {
                let time = |text: &str| Micros::parse_rfc3339(text).map(|time| time.0);
                let times = parsed::<TimestampMicrosecondType>(texts, refused, time);
                Arc::new(times.with_data_type(time_type()))
            }
            Some(FieldType::List) => self.lists(texts, refused),
        }
    }

    /// Elements as texts: of texts what they say, of numbers the canonical spelling, of lists and objects their JSON.
    fn lists(&self, texts: &StringViewArray, refused: &mut u64) -> ArrayRef {
        let column = self.place.and_then(|at| self.events.columns().get(at));
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        for (row, text) in texts.iter().enumerate() {
            let kind = column.map_or(Kind::Missing, |column| column.cell(row).kind);
            match (text, kind) {
                (None, _) => lists.append_null(),
                (Some(text), Kind::List) => match serde_json::from_str::<Vec<&RawValue>>(text) {
                    Ok(elements) => {
                        elements.iter().for_each(|raw| lists.values().append_option(element(raw.get())));
                        lists.append(true);
                    }
                    Err(_) => {
                        *refused += 1;
                        lists.append_null();
                    }
                },
                (Some(_), Kind::Object) => {
                    *refused += 1;
                    lists.append_null();
                }
                (Some(text), _) => {
                    lists.values().append_value(text);
                    lists.append(true);
                }
            }
        }
        Arc::new(lists.finish())
    }
}

/// One element of a list; nothing for null.
fn element(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => match serde_json::from_str::<Cow<'_, str>>(raw) {
            Ok(text) => Some(text),
            // Half of a pair of surrogates.
            Err(_) => Some(Cow::Borrowed(raw)),
        },
        Some(b'-' | b'0'..=b'9') => {
            Some(number(raw).map_or(Cow::Borrowed(raw), |(_, text)| Cow::Owned(text)))
        }
        _ => Some(Cow::Borrowed(raw)),
    }
}

fn numbers<T: ArrowPrimitiveType>(
    texts: &StringViewArray,
    refused: &mut u64,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new(parsed::<T>(texts, refused, parse))
}

fn parsed<T: ArrowPrimitiveType>(
    texts: &StringViewArray,
    refused: &mut u64,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let mut values = PrimitiveBuilder::<T>::with_capacity(texts.len());
    for text in texts {
        let value = text.and_then(&parse);
        *refused += u64::from(text.is_some() && value.is_none());
        values.append_option(value);
    }
    values.finish()
}

fn finite(text: &str) -> Option<f64> {
    // `inf` and `nan` are numbers to Rust, and to nobody who writes JSON.
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.filter(|_| text.bytes().any(|b| b.is_ascii_digit()))
}

fn booleans(texts: &StringViewArray, refused: &mut u64) -> ArrayRef {
    let mut values = BooleanBuilder::with_capacity(texts.len());
    for text in texts {
        let value = match text {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        *refused += u64::from(text.is_some() && value.is_none());
        values.append_option(value);
    }
    Arc::new(values.finish())
}

/// Addresses as their canonical texts, where the decoder has not made them so.
fn addresses(texts: &StringViewArray, refused: &mut u64) -> ArrayRef {
    let mut values = StringViewBuilder::with_capacity(texts.len());
    for text in texts {
        let address = text.and_then(|text| text.parse::<IpAddr>().ok());
        *refused += u64::from(text.is_some() && address.is_none());
        values.append_option(address.map(|address| address.to_canonical().to_string()));
    }
    Arc::new(values.finish())
}

fn decimals(texts: &StringViewArray, refused: &mut u64) -> ArrayRef {
    let values = parsed::<Decimal128Type>(texts, refused, decimal);
    let array: Decimal128Array = values.with_data_type(arrow_schema::DataType::Decimal128(PRECISION, SCALE));
    Arc::new(array)
}

/// A decimal as its multiple of the smallest one; nothing if it has more digits than there is room for, before or behind the point.
fn decimal(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let scale = usize::from(SCALE.unsigned_abs());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > scale {
        return None;
    }
    let mut value: i128 = 0;
    let zeros = std::iter::repeat_n(b'0', scale - fraction.len());
    for digit in whole.bytes().chain(fraction.bytes()).chain(zeros) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    (value < 10_i128.pow(u32::from(PRECISION))).then_some(if negative { -value } else { value })
}
