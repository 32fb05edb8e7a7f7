//! From a filter, a sort order and a cursor to one SQL text with `$n` arguments.
//!
//! In: [`Filter`], [`Sort`], an opaque cursor. Out: a [`Select`]. Invariants: what users give is only ever an argument,
//! never SQL text; a filter never selects covered notices; a cursor belongs to one sort order.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use crate::{
    error::Error,
    model::{Filter, Sort, SortKey, Status},
    search,
    transaction::Statement,
};

/// Rows on one page at most.
pub const MAX_PAGE: u32 = 500;

/// Characters of a pattern that count.
const MAX_SEARCH: usize = 1_000;

/// A cursor longer than this is none of ours.
const MAX_CURSOR: usize = 1_024;

enum Argument {
    Int(i64),
    Text(String),
}

/// A query over `alerts` under construction.
pub(crate) struct Select {
    sql: String,
    arguments: Vec<Argument>,
}

impl Select {
    /// All rows, covered notices too; `columns` is our own text.
    pub(crate) fn every(columns: &str) -> Self {
        Self { sql: format!("select {columns} from alerts where 1 = 1"), arguments: Vec::new() }
    }

    /// `select <columns> from alerts where <filter>`; `columns` is our own text. Of the rows that hold the filter's words the
    /// newest [`search::MAX_FOUND`].
    pub(crate) fn new(columns: &str, filter: &Filter) -> Self {
        Self::of_found(columns, filter, search::MAX_FOUND)
    }

    /// As [`Select::new`], with every row that holds the words.
    pub(crate) fn uncapped(columns: &str, filter: &Filter) -> Self {
        Self::of_found(columns, filter, i64::MAX)
    }

    fn of_found(columns: &str, filter: &Filter, most: i64) -> Self {
        let mut select = Self { sql: String::new(), arguments: Vec::new() };
        match filter.q.as_deref() {
            None => select.push(&format!("select {columns} from alerts")),
            // What holds the words is looked for first, and walked: the other way round each row that the walk passes
            // would be a question to the index of words.
            Some(text) => {
                select.push("with found (n) as materialized (");
                select.found(text, most);
                select.push(&format!(") select {columns} from found cross join alerts on created_seq = n"));
            }
        }
        select.push(" where covered_by is null");
        select.narrow(filter);
        select
    }

    /// The numbers of rows that hold the words, or whose id begins with the text.
    fn found(&mut self, text: &str, most: i64) {
        match search::query(text) {
            Some(query) => {
                self.push("select rowid from (select rowid from alert_search where alert_search match ");
                self.text(query);
                self.push(" order by rowid desc limit ");
                self.int(most);
                self.push(")");
            }
            None => self.push("select 0 where 1 = 0"),
        }
        if let Some((from, to)) = search::id_bounds(text) {
            self.push(" union select created_seq from (select created_seq from alerts where id >= ");
            self.text(from);
            self.push(" and id < ");
            self.text(to);
            self.push(" limit 100)");
        }
    }

    fn narrow(&mut self, filter: &Filter) {
        let select = self;
        // Several values of an indexed column would be looked up one by one and then sorted; walking in order is better.
        let status = if filter.status.len() > 1 { "coalesce(status, '')" } else { "status" };
        if !filter.status.is_empty() && !filter.status.contains(&Status::Closed) {
            select.push(" and status <> 'closed'");
        }
        if !filter.status.is_empty() && !filter.status.contains(&Status::New) {
            select.push(" and status <> 'new'");
        }
        select.any_of(status, filter.status.iter().map(|status| Argument::Text(status.name().to_owned())));
        select.any_of("state", filter.state.iter().map(|state| Argument::Text(state.name().to_owned())));
        select.any_of("severity", filter.severity.iter().map(|severity| Argument::Int(*severity as i64)));
        select.any_of("rule_id", filter.rule.iter().map(|rule| Argument::Text(rule.clone())));
        if let Some(kind) = &filter.entity_type {
            select.and_text("entity_type = ", kind.clone());
        }
        if let Some(value) = &filter.entity {
            select.and_text("entity_value = ", value.clone());
        }
        if let Some(source) = &filter.source {
            select.push(" and exists (select 1 from alert_sources s where s.id = alerts.id and s.source = ");
            select.text(source.clone());
            select.push(")");
        }
        match filter.assignee.as_deref() {
            None => {}
            Some("") => select.push(" and assignee is null"),
            Some(name) => select.and_text("assignee = ", name.to_owned()),
        }
        if !filter.technique.is_empty() {
            select.push(" and techniques in (select techniques from technique_sets where 1 = 1");
            select.any_of("technique", filter.technique.iter().map(|name| Argument::Text(name.clone())));
            select.push(") and techniques <> ''");
        }
        if let Some(since) = filter.since {
            select.and_int("crossed_at >= ", since.0);
        }
        if let Some(until) = filter.until {
            select.and_int("crossed_at < ", until.0);
        }
        if let Some(case) = filter.case {
            select.and_int("case_id = ", case);
        }
        if let Some(snoozed) = filter.snoozed {
            select.push(if snoozed { " and snooze_id is not null" } else { " and snooze_id is null" });
        }
    }

    /// Restricts it to these ids.
    pub(crate) fn ids(&mut self, ids: &[String]) {
        if ids.is_empty() {
            self.push(" and 1 = 0");
        }
        self.any_of("id", ids.iter().map(|id| Argument::Text(id.clone())));
    }

    /// Starts it after a cursor and sorts it.
    pub(crate) fn page(&mut self, sort: Sort, cursor: Option<&str>) -> Result<(), Error> {
        let columns = columns(sort.key);
        let (first, others) = columns.split_first().unwrap_or((&"created_seq", &[]));
        if let Some(cursor) = cursor {
            let place = PageEnd::read(cursor, sort)?;
            let after = if sort.descending { "<" } else { ">" };
            self.push(&format!(" and ({}) {after} (", columns.join(", ")));
            for (at, value) in place.values.into_iter().enumerate() {
                self.push(if at == 0 { "" } else { ", " });
                self.int(value);
            }
            self.push(")");
        }
        let direction = if sort.descending { "desc" } else { "asc" };
        self.push(&format!(" order by {first} {direction}"));
        others.iter().for_each(|column| self.push(&format!(", {column} {direction}")));
        Ok(())
    }

    /// Restricts it to rows that have not changed since `seq`, and to these numbers if there are any given.
    pub(crate) fn at(&mut self, seq: i64, numbers: Option<&BTreeSet<i64>>) {
        self.and_int("seq <= ", seq);
        let Some(numbers) = numbers else { return };
        if numbers.is_empty() {
            self.push(" and 1 = 0");
        }
        self.any_of("created_seq", numbers.iter().map(|number| Argument::Int(*number)));
    }

    /// Appends our own SQL text.
    pub(crate) fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Puts our own SQL text before it; what was a `with` stays inside.
    pub(crate) fn wrap(&mut self, sql: &str) {
        self.sql.insert_str(0, sql);
    }

    /// Appends a number as an argument.
    pub(crate) fn int(&mut self, value: i64) {
        self.argument(Argument::Int(value));
    }

    /// Appends ` and <sql> $n`.
    pub(crate) fn and_int(&mut self, sql: &'static str, value: i64) {
        self.push(" and ");
        self.push(sql);
        self.int(value);
    }

    /// The statement with its arguments bound.
    pub(crate) fn statement(self) -> Statement<'static> {
        let mut statement = sqlx::query(AssertSqlSafe(self.sql));
        for argument in self.arguments {
            statement = match argument {
                Argument::Int(value) => statement.bind(value),
                Argument::Text(value) => statement.bind(value),
            };
        }
        statement
    }

    /// Asks for the plan of the query instead of its rows.
    #[cfg(test)]
    pub(crate) fn explain(&mut self) {
        self.sql.insert_str(0, "explain query plan ");
    }

    fn text(&mut self, value: String) {
        self.argument(Argument::Text(value));
    }

    fn and_text(&mut self, sql: &'static str, value: String) {
        self.push(" and ");
        self.push(sql);
        self.text(value);
    }

    fn argument(&mut self, value: Argument) {
        self.arguments.push(value);
        self.sql.push_str(&format!("${}", self.arguments.len()));
    }

    fn any_of(&mut self, column: &'static str, values: impl Iterator<Item = Argument>) {
        let mut empty = true;
        for value in values {
            self.push(if empty { " and " } else { ", " });
            if empty {
                self.push(column);
                self.push(" in (");
            }
            empty = false;
            self.argument(value);
        }
        if !empty {
            self.push(")");
        }
    }
}

/// A pattern that finds `part` anywhere, its own wildcards taken literally; for what is looked through and not indexed.
pub(crate) fn like(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in part.to_lowercase().chars().take(MAX_SEARCH) {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// The columns that a list is sorted by. What is equal comes in the order in which it appeared: an index that ends in a
/// rising number grows at its end, where one that ends in an id, which is a hash, is written all over.
pub(crate) const fn columns(key: SortKey) -> &'static [&'static str] {
    match key {
        SortKey::CrossedAt => &["crossed_at", "created_seq"],
        SortKey::LastSeen => &["last_seen", "crossed_at", "created_seq"],
        SortKey::Severity => &["severity", "crossed_at", "created_seq"],
        SortKey::Count => &["event_count", "crossed_at", "created_seq"],
        SortKey::Created => &["created_seq"],
    }
}

/// Where a page ended.
pub(crate) struct PageEnd {
    /// The values of the columns that the list is sorted by.
    pub(crate) values: Vec<i64>,
}

impl PageEnd {
    /// The cursor's text.
    pub(crate) fn write(&self, sort: Sort) -> String {
        let sign = if sort.descending { "-" } else { "" };
        let mut text = format!("{sign}{}", sort.key);
        self.values.iter().for_each(|value| text.push_str(&format!("|{value}")));
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The place that a cursor of this order stands for.
    pub(crate) fn read(cursor: &str, sort: Sort) -> Result<Self, Error> {
        Self::parse(cursor, sort).ok_or(Error::BadCursor)
    }

    fn parse(cursor: &str, sort: Sort) -> Option<Self> {
        if cursor.len() > MAX_CURSOR || !cursor.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..cursor.len())
            .step_by(2)
            .map(|at| cursor.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let text = String::from_utf8(bytes?).ok()?;
        let mut parts = text.split('|');
        if Sort::parse(parts.next()?)? != sort {
            return None;
        }
        let values: Vec<i64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        (values.len() == columns(sort.key).len()).then_some(Self { values })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cursors_round_trip_and_belong_to_one_order() {
        let sort = Sort::parse("-severity").unwrap();
        let cursor = PageEnd { values: vec![3, -7, 90] }.write(sort);
        let place = PageEnd::read(&cursor, sort).unwrap();
        assert_eq!(place.values, [3, -7, 90]);
        let shorter = PageEnd { values: vec![3, -7] }.write(sort);
        for bad in ["", "zz", "é", "123", &cursor[2..], &shorter, &"00".repeat(9_999)] {
            assert!(matches!(PageEnd::read(bad, sort), Err(Error::BadCursor)), "{bad}");
        }
        assert!(matches!(PageEnd::read(&cursor, Sort::default()), Err(Error::BadCursor)));
    }

    #[test]
    fn wildcards_are_literal() {
        assert_eq!(like("50%_A\\"), "%50\\%\\_a\\\\%");
    }
}
