//! The columns of `events`: what people ask, and of which type each is.
//!
//! In: names of fields and their declared types. Out: [`Columns`], the schema of the table and the plan of each column.
//! Invariants: names are unique and exact in case; every column can be null but where a record is; the same names and types give
//! the same schema, whoever asks.
//!
//! | column | type | |
//! |---|---|---|
//! | `vedette.source` | Utf8View | the source |
//! | `vedette.topic` | Utf8View | the topic, or the file's name |
//! | `vedette.partition` | Int32 | the partition, or the file's number |
//! | `vedette.offset` | Int64 | offset of the event's record; its number in a file |
//! | `vedette.index` | UInt32 | number of the event within its record |
//! | `@timestamp` | Timestamp(µs, UTC) | when it happened |
//! | `vedette.incarnation` | UInt16 | in the lake: which of the topics of that name |
//! | `vedette.claimed` | Timestamp(µs, UTC) | in the lake: the time that the event claims, where that is not `@timestamp` |
//! | `vedette.spelled` | Utf8View | in the lake, hidden from `*`: an object of the texts that cells had which their columns cannot say |
//! | a field | by its declared type; text without one, and the JSON of an object | null where missing, JSON null, or not of the type |
//! | `event.original` | Utf8View | in the lake, where a query names it: the record as it came, of those that are kept so; it is in no file of events |
//! | `vedette.sigma('…')` | Boolean | whether a rule matches; hidden, there for [`sigma`](crate::functions) alone |

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use vedette_event::{FieldType, Fields};

use crate::{
    convert::Converter,
    lake::{HIDDEN, ORIGINAL},
};

/// Digits behind the point of a decimal; as many as the smallest unit of Ether has.
pub(crate) const SCALE: i8 = 18;
/// All digits of a decimal.
pub(crate) const PRECISION: u8 = 38;

/// What the table calls the claimed time.
pub(crate) const TIME: &str = "@timestamp";

/// The name of the column that has the source of an event.
pub const SOURCE: &str = "vedette.source";

/// The topic of an event's record.
pub(crate) const TOPIC: &str = "vedette.topic";
/// Its partition.
pub(crate) const PARTITION: &str = "vedette.partition";
/// The offset of an event's record.
pub(crate) const OFFSET: &str = "vedette.offset";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Source,
    Topic,
    Partition,
    Offset,
    Index,
    Time,
    /// A field's cells, by its declared type.
    Field(Option<FieldType>),
    /// Which of the topics of that name.
    Incarnation,
    /// The time that an event claims, where it is placed elsewhere.
    Claimed,
    /// What other columns cannot say of their cells.
    Spelled,
    /// Whether the rule of this number matches.
    Rule(usize),
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: Arc<str>,
    pub(crate) content: Content,
}

/// The columns of one table of events.
#[derive(Debug, Clone)]
pub struct Columns {
    all: Vec<Column>,
    by_name: HashMap<Arc<str>, usize>,
    schema: SchemaRef,
    /// Whether the decoder casts fields to their declared types; where it does not, they are as the record has them.
    typed: bool,
    rules: usize,
    /// Whether a query may name originals.
    originals: bool,
}

/// The name of the column that says which of the topics of one name an event is of.
pub(crate) const INCARNATION: &str = "vedette.incarnation";
/// The name of the column that has the claimed time of events that are placed elsewhere.
pub(crate) const CLAIMED: &str = "vedette.claimed";
/// The name of the column that has what other columns cannot say of their cells; hidden from `*`.
pub(crate) const SPELLED: &str = "vedette.spelled";

/// What the lake has beside, so that its events come back as they were decoded.
const OF_LAKE: [(&str, Content); 3] =
    [(INCARNATION, Content::Incarnation), (CLAIMED, Content::Claimed), (SPELLED, Content::Spelled)];

const OWN: [(&str, Content); 6] = [
    (SOURCE, Content::Source),
    (TOPIC, Content::Topic),
    (PARTITION, Content::Partition),
    (OFFSET, Content::Offset),
    ("vedette.index", Content::Index),
    (TIME, Content::Time),
];

impl Columns {
    /// Of these fields, and of the rules that a query names; `typed` says whether the decoder casts them to their declared types.
    #[must_use]
    pub fn new<'a>(
        fields: impl IntoIterator<Item = &'a str>,
        declared: &Fields,
        typed: bool,
        rules: &[String],
    ) -> Self {
        let own = OWN.map(|(name, content)| Column { name: name.into(), content });
        let names: BTreeSet<&str> = fields.into_iter().collect();
        let is_own = |name: &&str| OWN.iter().any(|(own, _)| own == name);
        let fields = names.into_iter().filter(|name| !is_own(name)).map(|name| {
            let of_lake = OF_LAKE.iter().find(|(own, _)| *own == name).map(|(_, content)| *content);
            let content = of_lake.unwrap_or_else(|| Content::Field(declared.kind(name)));
            Column { name: name.into(), content }
        });
        let hidden = rules.iter().enumerate().map(|(number, rule)| {
            let content = Content::Rule(number);
            Column { name: hidden_name(rule).into(), content }
        });
        let all: Vec<Column> = own.into_iter().chain(fields).chain(hidden).collect();
        let by_name = all.iter().enumerate().map(|(at, column)| (column.name.clone(), at)).collect();
        let schema = Arc::new(Schema::new(all.iter().map(field).collect::<Vec<_>>()));
        Self { all, by_name, schema, typed, rules: rules.len(), originals: false }
    }

    /// What the lake keeps of a source with these fields: beside them, when the broker took an event, why it is not where it claims to be, and
    /// what else is needed to have it back as it was decoded.
    #[must_use]
    pub fn of_lake<'a>(fields: impl IntoIterator<Item = &'a str>, declared: &Fields, typed: bool) -> Self {
        let more = [crate::lake::INGESTED, crate::lake::CLOCK, INCARNATION, CLAIMED, SPELLED];
        Self { originals: true, ..Self::new(fields.into_iter().chain(more), declared, typed, &[]) }
    }

    /// What makes events of all these columns.
    ///
    /// # Errors
    /// If Arrow refuses the columns, which would be a defect here.
    pub fn converter(&self) -> Result<Converter, ArrowError> {
        Converter::new(self, &(0..self.len()).collect::<Vec<_>>())
    }

    /// The columns that people see, with what each holds: `text`, `u16`, `time`, `list` and so on.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let shown = self.all.iter().filter(|column| !is_hidden(&column.name));
        let originals = self.originals.then_some((ORIGINAL, "text"));
        shown.map(|column| (&*column.name, said(column.content))).chain(originals)
    }

    /// Whether a query may name originals, which are no column of the events' own.
    pub(crate) const fn have_originals(&self) -> bool {
        self.originals
    }

    /// Whether there is such a column, in this very case.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Column> {
        self.all.get(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) const fn typed(&self) -> bool {
        self.typed
    }

    /// How many rules have a column.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }
}

/// How the names of the columns of rules begin.
pub(crate) const RULE_COLUMN: &str = "vedette.sigma('";

/// The name of the column that says whether a rule matches. No field is called so: it holds what no name of a field does.
pub(crate) fn hidden_name(rule: &str) -> String {
    format!("{RULE_COLUMN}{rule}')")
}

/// Whether a name is that of such a column.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with(RULE_COLUMN) || name == SPELLED || name == HIDDEN
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn field(column: &Column) -> Field {
    let (kind, null) = match column.content {
        Content::Source | Content::Topic => (DataType::Utf8View, false),
        Content::Partition => (DataType::Int32, false),
        Content::Offset => (DataType::Int64, false),
        Content::Index => (DataType::UInt32, false),
        Content::Time | Content::Claimed => (time_type(), true),
        Content::Incarnation => (DataType::UInt16, true),
        Content::Spelled => (DataType::Utf8View, true),
        Content::Rule(_) => (DataType::Boolean, false),
        Content::Field(declared) => (arrow_type(declared), true),
    };
    Field::new(&*column.name, kind, null)
}

pub(crate) fn arrow_type(declared: Option<FieldType>) -> DataType {
    match declared {
        None | Some(FieldType::Text | FieldType::Ip | FieldType::Object) => DataType::Utf8View,
        Some(FieldType::U16) => DataType::UInt16,
        Some(FieldType::U32) => DataType::UInt32,
        Some(FieldType::U64) => DataType::UInt64,
        Some(FieldType::I64) => DataType::Int64,
        Some(FieldType::F64) => DataType::Float64,
        Some(FieldType::Decimal) => DataType::Decimal128(PRECISION, SCALE),
        Some(FieldType::Bool) => DataType::Boolean,
        Some(FieldType::Time) => time_type(),
        Some(FieldType::List) => DataType::new_list(DataType::Utf8View, true),
    }
}

fn said(content: Content) -> &'static str {
    match content {
        Content::Source | Content::Topic => "text",
        Content::Partition => "i32",
        Content::Offset => "i64",
        Content::Index => "u32",
        Content::Time | Content::Claimed => "time",
        Content::Incarnation => "u16",
        Content::Spelled => "object",
        Content::Rule(_) => "bool",
        Content::Field(declared) => match declared {
            None | Some(FieldType::Text) => "text",
            Some(FieldType::Ip) => "ip",
            Some(FieldType::U16) => "u16",
            Some(FieldType::U32) => "u32",
            Some(FieldType::U64) => "u64",
            Some(FieldType::I64) => "i64",
            Some(FieldType::F64) => "f64",
            Some(FieldType::Decimal) => "decimal",
            Some(FieldType::Bool) => "bool",
            Some(FieldType::Time) => "time",
            Some(FieldType::List) => "list",
            Some(FieldType::Object) => "object",
        },
    }
}
