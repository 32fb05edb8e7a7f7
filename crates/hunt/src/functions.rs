//! The functions that logs need beside those of SQL.
//!
//! | function | |
//! |---|---|
//! | `match(text, 'words')` | whether all words occur in the text as whole words, ignoring case ([`words`](crate::words)) |
//! | `cidr_match(ip, '10.0.0.0/8')` | whether an address lies in a network of either family; null if it is no address |
//! | `time_bin('5m', time)` | the beginning of the interval of that length (from 1970 on) in which the time lies |
//! | `sigma('rule')` | whether the rule with this id or name matches the event; the source answers, by a column of its own |
//!
//! In: columns of text, times and the columns of rules. Out: columns.
//! Invariants: null of null; a constant argument is read once a batch, and a wrong one is an error, whatever rows there are.

use std::{net::IpAddr, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, StringViewArray, TimestampMicrosecondArray, cast::AsArray as _,
    types::TimestampMicrosecondType,
};
use arrow_schema::DataType;
use datafusion::{
    common::{exec_err, plan_err},
    error::Result,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};
use ipnet::IpNet;
use vedette_event::{Micros, Span};

use crate::{columns::time_type, words::Words};

/// The functions that logs need beside those of SQL, and of SQL those that are needed most: name, how it is written, what it does.
pub const FUNCTIONS: [(&str, &str, &str); 12] = [
    ("match", "match(text, 'words')", "whether all words occur in the text as whole words, ignoring case"),
    (
        "cidr_match",
        "cidr_match(ip, '10.0.0.0/8')",
        "whether an address lies in a network; null if it is no address",
    ),
    (
        "time_bin",
        "time_bin('5m', \"@timestamp\")",
        "the beginning of the interval of that length in which the time lies",
    ),
    ("sigma", "sigma('rule id')", "whether the rule with this id, name or title matches the event"),
    ("count", "count(*), count(distinct user.name)", "how many rows, or different values"),
    ("min", "min(\"@timestamp\")", "the least value"),
    ("max", "max(\"@timestamp\")", "the greatest value"),
    ("sum", "sum(source.bytes)", "the sum"),
    ("lower", "lower(user.name)", "the text in lower case"),
    ("split_part", "split_part(url.path, '/', 2)", "a part of the text between separators"),
    (
        "regexp_like",
        "regexp_like(url.original, '(?i)union.*select')",
        "whether a regular expression matches a part of the text",
    ),
    ("now", "now() - interval '1 hour'", "the present time"),
];

/// Which function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Match,
    CidrMatch,
    TimeBin,
    Sigma,
}

/// One of our functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    which: Which,
    signature: Signature,
}

/// All of them.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    [Which::Match, Which::CidrMatch, Which::TimeBin, Which::Sigma]
        .into_iter()
        .map(|which| {
            let arguments = match which {
                Which::Match | Which::CidrMatch => vec![DataType::Utf8View, DataType::Utf8View],
                Which::TimeBin => vec![DataType::Utf8View, time_type()],
                Which::Sigma => vec![DataType::Utf8View, DataType::Boolean],
            };
            let signature = Signature::exact(arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::from(Function { which, signature }))
        })
        .collect()
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        match self.which {
            Which::Match => "match",
            Which::CidrMatch => "cidr_match",
            Which::TimeBin => "time_bin",
            Which::Sigma => "sigma",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.which == Which::TimeBin { time_type() } else { DataType::Boolean })
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        // The column of a rule is nobody's business.
        let shown = if self.which == Which::Sigma { &arguments[..arguments.len().min(1)] } else { arguments };
        let shown: Vec<String> = shown.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name(), shown.join(",")))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [first, second] = &args.args[..] else { return plan_err!("`{}` takes two values", self.name()) };
        let array: ArrayRef = match self.which {
            Which::Match => {
                let wanted = constant(second).map(Words::of);
                if wanted.as_ref().is_some_and(Words::is_empty) {
                    return exec_err!("`match` has no word to look for; write at least one letter or digit");
                }
                pairs(first, second, rows, |text, words| {
                    Ok(Some(match &wanted {
                        Some(wanted) => wanted.are_in(text),
                        None => Words::of(words).are_in(text),
                    }))
                })?
            }
            Which::CidrMatch => {
                let network = constant(second).map(network).transpose()?;
                pairs(first, second, rows, |address, written| {
                    let Ok(address) = address.parse::<IpAddr>() else { return Ok(None) };
                    let network = network.map_or_else(|| self::network(written), Ok)?;
                    Ok(Some(network.contains(&address.to_canonical())))
                })?
            }
            Which::TimeBin => bins(first, second, rows)?,
            Which::Sigma => return Ok(second.clone()),
        };
        // Of constants the value is one, too.
        let constant = matches!((first, second), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        if constant && rows > 0 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// The text of a constant.
fn constant(value: &ColumnarValue) -> Option<&str> {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten(),
        ColumnarValue::Array(_) => None,
    }
}

/// What is true of each pair of texts.
fn pairs(
    first: &ColumnarValue,
    second: &ColumnarValue,
    rows: usize,
    truth: impl Fn(&str, &str) -> Result<Option<bool>>,
) -> Result<ArrayRef> {
    let (first, second) = (first.to_array(rows)?, second.to_array(rows)?);
    let (first, second): (&StringViewArray, &StringViewArray) =
        (first.as_string_view(), second.as_string_view());
    let each = first.iter().zip(second).map(|pair| match pair {
        (Some(first), Some(second)) => truth(first, second),
        _ => Ok(None),
    });
    Ok(Arc::new(each.collect::<Result<BooleanArray>>()?))
}

fn network(written: &str) -> Result<IpNet> {
    let network = written.parse::<IpNet>().or_else(|_| written.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) => Ok(network),
        Err(_) => exec_err!("`{written}` is no network; write it as `10.0.0.0/8` or `2001:db8::/32`"),
    }
}

fn bins(length: &ColumnarValue, times: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    let Some(written) = constant(length) else {
        return exec_err!("`time_bin` takes the length as a text, as in time_bin('5m', \"@timestamp\")");
    };
    let Some(length) = Span::parse(written).filter(|length| length.0 > 0) else {
        return exec_err!("`{written}` is no length of time; write a whole number and s, m, h, d or w: `5m`");
    };
    let times = times.to_array(rows)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let bins: TimestampMicrosecondArray = times.unary(|time| Micros(time).floor(length).0);
    Ok(Arc::new(bins.with_data_type(time_type())))
}
