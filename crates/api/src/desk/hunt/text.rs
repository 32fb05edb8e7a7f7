//! Texts of hunts that are put together here: values and names become SQL in one place.
//!
//! In: names of columns and values from logs, which are hostile; texts that people wrote. Out: SQL. Invariants: a value is one literal, whatever
//! is in it, and equals the value and nothing else; a name is one name; a text that a person wrote is put into brackets unless it is of
//! the shape that is written here.

use serde_json::Value;

use crate::hunts::{Column, HuntSchema};

/// All events, the newest first.
pub(crate) const ALL: &str = "select * from events\norder by \"@timestamp\" desc";

const EVENTS: &str = "select * from events";
const OPEN: &str = "select * from (";
const CLOSE: &str = ") as hunted";
/// Names at most that one value is looked for in.
const MAX_COLUMNS: usize = 60;

/// A text as SQL has it; none if SQL has no way to write it. Control characters, and others that are neither letters nor digits, are named by
/// their numbers, because forms change line ends and pages write what cannot be seen.
pub(crate) fn literal(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    let mut parts: Vec<String> = Vec::new();
    let mut plain = String::new();
    let end = |plain: &mut String, parts: &mut Vec<String>| {
        if !plain.is_empty() {
            parts.push(format!("'{}'", std::mem::take(plain).replace('\'', "''")));
        }
    };
    for c in text.chars() {
        if c.is_control() || !(c.is_ascii() || c.is_alphanumeric()) {
            end(&mut plain, &mut parts);
            parts.push(format!("chr({})", u32::from(c)));
        } else {
            plain.push(c);
        }
    }
    end(&mut plain, &mut parts);
    Some(match &parts[..] {
        [] => "''".to_owned(),
        [only] => only.clone(),
        more => format!("({})", more.join(" || ")),
    })
}

/// A column's name as SQL has it: as people write it where that can be nothing else.
pub(crate) fn name(column: &str) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if column.contains('.') && column.split('.').all(plain) {
        column.to_owned()
    } else {
        format!("\"{}\"", column.replace('"', "\"\""))
    }
}

/// What is true of rows whose column has this value, or of all others; none of what cannot be compared.
pub(crate) fn condition(column: &Column, value: &Value, has: bool) -> Option<String> {
    let own = name(&column.name);
    let written = match (&*column.kind, value) {
        (_, Value::Null) => return Some(format!("{own} is {}null", if has { "" } else { "not " })),
        ("list" | "object", _) => return None,
        (_, Value::Bool(value)) => value.to_string(),
        (_, Value::Number(number)) => number.to_string(),
        ("decimal", Value::String(text)) => number(text)?.to_owned(),
        ("text" | "ip" | "time", Value::String(text)) => literal(text)?,
        _ => return None,
    };
    // Rows without a value are others, too.
    Some(if has { format!("{own} = {written}") } else { format!("{own} is distinct from {written}") })
}

/// A number as SQL has it, if it is one.
fn number(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.') && digits.matches('.').count() < 2;
    (plain && digits.starts_with(|c: char| c.is_ascii_digit())).then_some(text)
}

/// The hunt for what it finds and this is true of.
pub(crate) fn narrowed(sql: &str, condition: &str) -> String {
    let Some((head, conditions, order)) = parts(sql) else {
        return format!("{OPEN}\n{}\n{CLOSE}\nwhere {condition}", sql.trim());
    };
    let mut lines = vec![head];
    lines.extend(conditions.iter().map(|line| (*line).to_owned()));
    let word = if conditions.is_empty() { "where" } else { "  and" };
    lines.push(format!("{word} {condition}"));
    lines.extend(order.map(str::to_owned));
    lines.join("\n")
}

/// A text of the shape that is written here: what it is of, its conditions, line by line, and its order.
fn parts(sql: &str) -> Option<(String, Vec<&str>, Option<&str>)> {
    let sql = sql.trim();
    let (head, rest) = if let Some(rest) = sql.strip_prefix(EVENTS) {
        (EVENTS.to_owned(), rest)
    } else if sql.starts_with(&format!("{OPEN}\n")) {
        let close = format!("\n{CLOSE}");
        let at = sql.rfind(&close)? + close.len();
        (sql.get(..at)?.to_owned(), sql.get(at..)?)
    } else {
        return None;
    };
    let mut lines = rest.split('\n');
    if !lines.next()?.trim().is_empty() {
        return None;
    }
    let (mut conditions, mut order) = (Vec::new(), None);
    for line in lines {
        let word = if conditions.is_empty() { "where " } else { "  and " };
        let ordered = line.strip_prefix("order by ").is_some_and(|by| !by.contains(['\'', '(', '-', '/']));
        if order.is_none() && line.starts_with(word) && whole(line) {
            conditions.push(line);
        } else if order.is_none() && ordered && !line.to_lowercase().contains(" limit") {
            order = Some(line);
        } else {
            return None;
        }
    }
    Some((head, conditions, order))
}

/// Whether a condition ends with its line, so that another can stand behind it: nothing in it is open, and outside of texts and brackets it
/// has no word that binds less than `and`, or that begins something else.
fn whole(line: &str) -> bool {
    let (mut depth, mut within, mut outside) = (0_i32, None, String::new());
    for c in line.chars() {
        match (within, c) {
            (Some(quote), c) if c == quote => within = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => within = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) if depth == 0 => outside.push(c.to_ascii_lowercase()),
            (None, _) => {}
        }
        if depth < 0 {
            return false;
        }
    }
    let others = [
        "or",
        "group",
        "having",
        "order",
        "limit",
        "offset",
        "union",
        "except",
        "intersect",
        "fetch",
        "window",
    ];
    let mut words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let comments = ["--", "/*", ";", "$"].iter().any(|sign| line.contains(sign));
    depth == 0 && within.is_none() && !comments && !words.any(|word| others.contains(&word))
}

/// All events in which an entity occurs: an address in any column of addresses, anything else in the column that it is named after.
pub(crate) fn of_entity(kind: &str, value: &str, schema: &HuntSchema) -> Option<String> {
    let value = literal(value)?;
    let columns = schema.tables.first().map(|table| &table.columns[..]).unwrap_or_default();
    let own = columns.iter().find(|column| column.column.name == kind)?;
    let of = |column: &&crate::hunts::ColumnSchema| {
        column.column.name == kind || (own.column.kind == "ip" && column.column.kind == "ip")
    };
    let names = columns.iter().filter(of).take(MAX_COLUMNS);
    let any: Vec<String> = names.map(|column| format!("{} = {value}", name(&column.column.name))).collect();
    let any = if any.len() == 1 { any.concat() } else { format!("({})", any.join(" or ")) };
    Some(narrowed(ALL, &any))
}

const BINS: &str = "\ngroup by bin order by bin";
const PLACE: &str = "select * from events\nwhere vedette.topic = ";
/// With the record as it came.
const PLACE_WITH_ORIGINAL: &str = "select *, event.original from events\nwhere vedette.topic = ";

/// How many rows a hunt finds in each step of time.
pub(crate) fn over_time(sql: &str, step: &str) -> String {
    let sql = sql.trim();
    format!("select time_bin('{step}', \"@timestamp\") as bin, count(*) as n from (\n{sql}\n{CLOSE}{BINS}")
}

/// Whether a text is one that pages ask by themselves.
pub(crate) fn is_ours(sql: &str) -> bool {
    (sql.starts_with("select time_bin('") && sql.ends_with(BINS))
        || [PLACE, PLACE_WITH_ORIGINAL].iter().any(|place| sql.starts_with(place))
}

/// The one event at a place in the log, with its record where that may be shown.
pub(crate) fn at_place(
    (topic, partition): (&str, i32),
    (offset, index): (i64, u32),
    originals: bool,
) -> Option<String> {
    let topic = literal(topic)?;
    let place = if originals { PLACE_WITH_ORIGINAL } else { PLACE };
    Some(format!(
        "{place}{topic}\n  and vedette.partition = {partition}\n  and vedette.offset = {offset}\n  \
         and vedette.index = {index}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn column(name: &str, kind: &str) -> Column {
        Column { name: name.to_owned(), kind: kind.to_owned() }
    }

    /// Reads a literal as SQL does; panics at what is none.
    fn read(sql: &str) -> String {
        let inner = sql.strip_prefix('(').and_then(|sql| sql.strip_suffix(')')).unwrap_or(sql);
        let (mut text, mut rest) = (String::new(), inner);
        loop {
            if let Some(number) = rest.strip_prefix("chr(") {
                let (number, behind) = number.split_once(')').unwrap();
                text.push(char::from_u32(number.parse().unwrap()).unwrap());
                rest = behind;
            } else {
                let mut chars = rest.strip_prefix('\'').unwrap().char_indices().peekable();
                let end = loop {
                    match chars.next().unwrap() {
                        (at, '\'') if chars.peek().is_none_or(|(_, c)| *c != '\'') => break at,
                        (_, '\'') => {
                            chars.next();
                            text.push('\'');
                        }
                        (_, c) => text.push(c),
                    }
                };
                rest = &rest[end + 2..];
            }
            match rest.strip_prefix(" || ") {
                Some(more) => rest = more,
                None => break,
            }
        }
        assert_eq!(rest, "", "{sql}");
        text
    }

    #[test]
    fn a_hostile_value_is_one_literal_that_is_the_value() {
        let hostile = [
            "",
            "'",
            "''",
            "' or 1=1 --",
            "\\' or ''='",
            "a\r\nb",
            "\n",
            "'\u{b}'",
            "\u{2019}\u{ff07}",
            "/* */; drop table events",
            "chr(10)",
            "$$x$$",
            "\u{85}\u{202e}",
            "🦀'",
            "\\",
            "%_",
            "'||'",
        ];
        for value in hostile {
            assert_eq!(read(&literal(value).unwrap()), value, "{value:?}");
            // What a form does to line ends does nothing to it.
            assert!(!literal(value).unwrap().contains(|c: char| c.is_control() || c == '\u{202e}'));
        }
        assert_eq!(literal("a\0b"), None);
        assert_eq!(literal("a\nb").unwrap(), "('a' || chr(10) || 'b')");
    }

    #[test]
    fn a_name_is_one_name() {
        for (column, expected) in [
            ("source.ip", "source.ip"),
            ("@timestamp", "\"@timestamp\""),
            ("select", "\"select\""),
            ("c-ip", "\"c-ip\""),
            ("a\"; drop", "\"a\"\"; drop\""),
            ("Upper.Case", "\"Upper.Case\""),
            ("a..b", "\"a..b\""),
            ("a.1", "\"a.1\""),
            ("a.b c", "\"a.b c\""),
        ] {
            assert_eq!(name(column), expected);
        }
    }

    #[test]
    fn conditions_are_of_the_columns_type() {
        let of = |kind, value| condition(&column("a.b", kind), &value, true);
        assert_eq!(of("text", json!("x'y")).unwrap(), "a.b = 'x''y'");
        assert_eq!(of("u16", json!(443)).unwrap(), "a.b = 443");
        assert_eq!(of("bool", json!(true)).unwrap(), "a.b = true");
        assert_eq!(of("decimal", json!("-0.5")).unwrap(), "a.b = -0.5");
        assert_eq!(of("text", Value::Null).unwrap(), "a.b is null");
        for wrong in ["", "1 or 1=1", "1e5", "--1", ".", "1.2.3"] {
            assert_eq!(of("decimal", json!(wrong)), None, "{wrong}");
        }
        assert_eq!(of("f64", json!("inf")), None);
        assert_eq!(of("list", json!(["x"])), None);
        let without = condition(&column("a.b", "ip"), &json!("::1"), false).unwrap();
        assert_eq!(without, "a.b is distinct from '::1'");
    }

    #[test]
    fn what_is_narrowed_stays_what_it_was_and_more() {
        let once = narrowed(ALL, "a.b = 'x''y or'");
        assert_eq!(once, "select * from events\nwhere a.b = 'x''y or'\norder by \"@timestamp\" desc");
        let twice = narrowed(&once, "c.d = 1");
        assert_eq!(
            twice,
            "select * from events\nwhere a.b = 'x''y or'\n  and c.d = 1\norder by \"@timestamp\" desc"
        );
        let own = "select user.name, count(*) from events group by 1 -- all";
        let inner = narrowed(own, "user.name = 'ann'");
        assert_eq!(inner, format!("select * from (\n{own}\n) as hunted\nwhere user.name = 'ann'"));
        assert_eq!(narrowed(&inner, "b.c = 2"), format!("{inner}\n  and b.c = 2"));
    }

    #[test]
    fn what_a_person_wrote_otherwise_is_put_into_brackets() {
        for own in [
            "select * from events where a = 1",
            "select * from events\nwhere a.b = 1 or c.d = 2",
            "select * from events\nwhere a.b = 1 limit 5",
            "select * from events\nwhere a.b = 'x",
            "select * from events\nwhere a.b = (1",
            "select * from events\nwhere a.b = 1) or (1 = 1",
            "select * from events\nwhere a.b = 1 -- )",
            "select * from events\nwhere a.b = 1\n   or c.d = 2",
            "select * from events\norder by a.b limit 5",
            "select * from events_of_another",
            "select * from (\nselect 1\n) as hunted union select * from events",
        ] {
            let text = narrowed(own, "x.y = 1");
            assert_eq!(text, format!("select * from (\n{own}\n) as hunted\nwhere x.y = 1"));
        }
        let within = "select * from events\nwhere (a.b = 1 or c.d = 2)";
        assert_eq!(narrowed(within, "x.y = 1"), format!("{within}\n  and x.y = 1"));
    }
}
