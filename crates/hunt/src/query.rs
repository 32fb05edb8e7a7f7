//! The text of a hunt: bounded, with names that hold dots put together, and nothing but a question.
//!
//! In: SQL, then the columns that there are. Out: [`Query`], and a statement for the planner.
//! Invariants: text beyond the bounds is refused before anything recursive looks at it; string literals and comments stay as they are;
//! a statement is one `select`, `with … select` or `explain` of one.
//!
//! # Names with dots
//!
//! `source.ip` is one column here, and to SQL the column `ip` of a table `source`. So a chain of words without blanks between them whose
//! text is a column becomes one quoted name, and so does its end behind the first word (`e.source.ip`). This happens to tokens, not to
//! the tree that the parser makes of them, because to the parser `user.name` is no chain at all: `user` is a function. A column is
//! meant even where a table is called like its first word. A chain that is no column, and whose first word stands nowhere by itself, can
//! be no column of a table either (that would have to be named): it becomes one name, too, so that the planner says what it lacks.

use std::collections::HashSet;

use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::{
        ast::{Query as SqlQuery, SetExpr, Statement as SqlStatement},
        dialect::GenericDialect,
        tokenizer::{Span, Token, TokenWithSpan, Tokenizer, Word},
    },
};

use vedette_event::Micros;

use crate::{
    columns::{Columns, hidden_name, is_hidden},
    error::{Error, Place, syntax},
    lake::{HIDDEN, ORIGINAL},
    named::{self, MAX_TABLES},
};

/// Bytes of a query.
const MAX_BYTES: usize = 64 << 10;
/// Words, numbers, texts and signs of a query: some thousand values in a list.
const MAX_TOKENS: usize = 8_192;
/// Levels of parentheses, functions and subqueries.
pub(crate) const MAX_DEPTH: usize = 40;
/// Levels of words with a syntax of their own (`case`, `cast(…)`): the parser tries each of them in two or three ways, and what is within it
/// as often again, so that each level of what turns out to be no SQL takes up to three times as long.
const MAX_SPECIAL: usize = 7;
/// Operators side by side, which are levels of the tree; `or` and `and` among them.
const MAX_OPERATORS: usize = 1_024;
/// `||` of a query: each is a function that looks at all before it.
const MAX_JOINED: usize = 64;

/// Our functions whose names mean something else to SQL.
const QUOTED_FUNCTIONS: [&str; 1] = ["match"];

/// A query within the bounds, not yet understood.
#[derive(Debug, Clone)]
pub struct Query {
    tokens: Vec<TokenWithSpan>,
    rules: Vec<String>,
    /// From when until before when the events are that it is asked of.
    pub(crate) times: (Option<Micros>, Option<Micros>),
}

impl Query {
    /// Takes a text apart.
    ///
    /// # Errors
    /// If it is too long or nested too deeply, or if a text or a name in it has no end.
    pub fn new(sql: &str) -> Result<Self, Error> {
        if sql.len() > MAX_BYTES {
            return Err(Error::TooLong { what: "bytes", is: sql.len(), most: MAX_BYTES });
        }
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let tokens = tokens.map_err(|error| syntax(&error.into()))?;
        bound(&tokens)?;
        let mut query = Self { tokens, rules: Vec::new(), times: (None, None) };
        query.take_rules()?;
        Ok(query)
    }

    /// Asks only of events from the one time until before the other, whatever the text says beside.
    #[must_use]
    pub const fn between(mut self, from: Option<Micros>, until: Option<Micros>) -> Self {
        self.times = (from, until);
        self
    }

    /// The rules that `sigma('…')` names, each once.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// Names that a column might have to be made for: chains of words, and quoted names with a dot.
    #[must_use]
    pub fn dotted_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let chain = self.chain(at);
            if let [only] = &chain[..]
                && only.quote_style.is_some()
                && only.value.contains('.')
            {
                names.push(only.value.clone());
            } else if chain.len() > 1 {
                names.push(joined(&chain));
                names.push(joined(&chain[1..]));
            }
            at += (2 * chain.len()).max(2) - 1;
        }
        names.sort_unstable();
        names.dedup();
        names.retain(|name| name.contains('.') && !is_hidden(name));
        names
    }

    /// Whether a word stands in no chain, and so can name a table.
    #[must_use]
    pub fn names_alone(&self, word: &str) -> bool {
        self.words_alone().contains(&word.to_lowercase())
    }

    /// Whether it names originals: records as they came.
    #[must_use]
    pub fn names_originals(&self) -> bool {
        (0..self.tokens.len()).any(|at| self.original(at).is_some())
    }

    /// If the column of originals is named here: whether behind the name of a table, and how many tokens that is.
    fn original(&self, at: usize) -> Option<(bool, usize)> {
        let chain = self.chain(at);
        let before = (0..at).rev().find(|at| !matches!(self.tokens[*at].token, Token::Whitespace(_)));
        let before = before.map(|at| &self.tokens[at].token);
        let is_as = matches!(before, Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("as"));
        let length = (2 * chain.len()).checked_sub(1)?;
        let called = self.next_token(at + length) == Some(&Token::LParen);
        // Within a chain it is looked at from its beginning.
        if is_as || called || before == Some(&Token::Period) {
            return None;
        }
        let named = |words: &[&Word]| match words {
            [only] => only.quote_style.is_some() && only.value == ORIGINAL,
            more => more.iter().all(|word| word.quote_style.is_none()) && joined(more) == ORIGINAL,
        };
        let behind = chain.len() > 1 && named(chain.get(1..).unwrap_or_default());
        (behind || named(&chain)).then_some((behind, length))
    }

    /// The statement over these columns.
    pub(crate) fn statement(&self, columns: &Columns) -> Result<Statement, Error> {
        let tokens = self.with_whole_names(columns);
        let dialect = GenericDialect {};
        let parser = DFParserBuilder::new(tokens).with_dialect(&dialect).with_recursion_limit(MAX_DEPTH + 10);
        let mut statements = self.parsed(parser.build().and_then(|mut parser| parser.parse_statements()))?;
        if let Some(end) = self.tokens.iter().find(|token| token.token == Token::SemiColon) {
            return Err(Error::NotAllowed {
                what: "`;`".to_owned(),
                remedy: "leave it out, and ask one question at a time".to_owned(),
                at: place(end.span),
            });
        }
        let first = statements.pop_front();
        let Some(statement) = first else {
            return Err(Error::Syntax { message: "there is no query".to_owned(), at: None });
        };
        self.check(&statement)?;
        Ok(statement)
    }

    fn parsed<T>(&self, parsed: datafusion::error::Result<T>) -> Result<T, Error> {
        parsed.map_err(|error| {
            // What begins with `create` and goes on as no SQL is refused for what it begins with.
            self.check_first().err().unwrap_or_else(|| {
                let nothing = |_: &str| None;
                let context =
                    crate::error::Context { place_of: &nothing, columns: &[], functions: &[], memory: 0 };
                crate::error::explain(error, &context)
            })
        })
    }

    /// Whether the first word can begin a question.
    fn check_first(&self) -> Result<(), Error> {
        let first = self.tokens.iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
        let Some(TokenWithSpan { token: Token::Word(word), span }) = first else { return Ok(()) };
        let begins = ["select", "with", "explain", "values", "from"];
        if word.quote_style.is_some() || begins.iter().any(|begin| word.value.eq_ignore_ascii_case(begin)) {
            return Ok(());
        }
        Err(not_allowed(&word.value, place(*span)))
    }

    fn check(&self, statement: &Statement) -> Result<(), Error> {
        self.check_first()?;
        let of_sql = |statement: &SqlStatement| match statement {
            SqlStatement::Query(query) => question(query),
            _ => false,
        };
        let asked = match statement {
            Statement::Statement(statement) => Some(statement),
            Statement::Explain(explain) => match &*explain.statement {
                Statement::Statement(statement) => Some(statement),
                _ => None,
            },
            _ => None,
        };
        let Some(asked) = asked.filter(|statement| of_sql(statement)) else {
            return Err(not_allowed(&self.changing_word(), None));
        };
        let tables = named::count(&**asked);
        if tables > MAX_TABLES {
            let what = "tables, with those that `with` names wherever they are named";
            return Err(Error::TooLong { what, is: tables, most: MAX_TABLES });
        }
        Ok(())
    }

    /// The word that most probably asks for more than an answer.
    fn changing_word(&self) -> String {
        let words = self.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
            _ => None,
        });
        let begins = ["select", "with", "explain", "analyze", "verbose", "as"];
        let changing =
            ["insert", "update", "delete", "merge", "into", "copy", "create", "drop", "set", "show"];
        let all: Vec<String> = words.collect();
        let found = all.iter().find(|word| changing.contains(&word.as_str()));
        let other = || all.iter().find(|word| !begins.contains(&word.as_str()));
        found.or_else(other).cloned().unwrap_or_else(|| "this statement".to_owned())
    }

    /// Where a word or a chain of words stands first.
    pub(crate) fn place_of(&self, name: &str) -> Option<Place> {
        let mut at = 0;
        while at < self.tokens.len() {
            let chain = self.chain(at);
            let tail = chain.get(1..).unwrap_or_default();
            if !chain.is_empty() && (is_called(&chain, name) || is_called(tail, name)) {
                return place(self.tokens[at].span);
            }
            at += (2 * chain.len()).max(2) - 1;
        }
        None
    }

    /// The words from here on that points alone divide.
    fn chain(&self, at: usize) -> Vec<&Word> {
        let word = |at: usize| match self.tokens.get(at).map(|token| &token.token) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        };
        let mut chain: Vec<&Word> = word(at).into_iter().collect();
        let is_point = |at: usize| self.tokens.get(at).is_some_and(|token| token.token == Token::Period);
        while !chain.is_empty() && is_point(at + 2 * chain.len() - 1) {
            let Some(next) = word(at + 2 * chain.len()) else { break };
            chain.push(next);
        }
        chain
    }

    /// The tokens, each column in one.
    fn with_whole_names(&self, columns: &Columns) -> Vec<TokenWithSpan> {
        let alone = self.words_alone();
        let mut tokens = Vec::with_capacity(self.tokens.len());
        let mut at = 0;
        while at < self.tokens.len() {
            let chain = self.chain(at);
            let called = |by: usize| self.next_token(at + by) == Some(&Token::LParen);
            let Some(first) = chain.first() else {
                tokens.push(self.tokens[at].clone());
                at += 1;
                continue;
            };
            let length = 2 * chain.len() - 1;
            let span = self.tokens[at].span;
            if columns.have_originals()
                && let Some((behind, length)) = self.original(at)
            {
                let token = |token| TokenWithSpan { token, span };
                let table = if behind { &self.tokens[at..at + 2] } else { &[] };
                tokens.extend([token(Token::make_word(ORIGINAL, Some('"'))), token(Token::LParen)]);
                tokens.extend(table.iter().cloned());
                tokens.extend([token(Token::make_word(HIDDEN, Some('"'))), token(Token::RParen)]);
                at += length;
                continue;
            }
            let whole = |name: String| TokenWithSpan { token: Token::make_word(&name, Some('"')), span };
            let bare = |words: &[&Word]| words.iter().all(|word| word.quote_style.is_none());
            let tail = chain.get(1..).unwrap_or_default();
            if chain.len() == 1 && called(1) && is_ours(first) {
                tokens.push(whole(first.value.to_ascii_lowercase()));
            } else if bare(&chain) && columns.has(&joined(&chain)) && !called(length) {
                tokens.push(whole(joined(&chain)));
            } else if !tail.is_empty() && bare(tail) && columns.has(&joined(tail)) && !called(length) {
                tokens.extend([self.tokens[at].clone(), self.tokens[at + 1].clone()]);
                tokens.push(whole(joined(tail)));
            } else if chain.len() > 1 && bare(&chain) && !called(length) && !alone.contains(&lower(first)) {
                tokens.push(whole(joined(&chain)));
            } else {
                tokens.extend(self.tokens[at..at + length].iter().cloned());
            }
            at += length;
        }
        tokens
    }

    /// The words that stand in no chain, in lower case: whatever names a table, an alias or a column is among them.
    fn words_alone(&self) -> HashSet<String> {
        let point = |at: Option<usize>| {
            let token = at.and_then(|at| self.tokens.get(at));
            token.is_some_and(|token| token.token == Token::Period)
        };
        let alone = self.tokens.iter().enumerate().filter_map(|(at, token)| match &token.token {
            Token::Word(word) if !point(at.checked_sub(1)) && !point(Some(at + 1)) => Some(lower(word)),
            _ => None,
        });
        alone.collect()
    }

    /// The next token from here on that is no blank.
    fn next_token(&self, at: usize) -> Option<&Token> {
        self.next_solid(at).and_then(|at| self.tokens.get(at)).map(|token| &token.token)
    }

    fn next_solid(&self, at: usize) -> Option<usize> {
        let rest = self.tokens.get(at..)?;
        rest.iter().position(|token| !matches!(token.token, Token::Whitespace(_))).map(|by| at + by)
    }

    /// Gives each `sigma('…')` the column of its rule as a second argument, and takes note of the rule.
    fn take_rules(&mut self) -> Result<(), Error> {
        let mut at = 0;
        while at < self.tokens.len() {
            let begins = matches!(&self.tokens[at].token, Token::Word(word)
                if word.value == "sigma" || word.quote_style.is_none() && word.value.eq_ignore_ascii_case("sigma"));
            let open = self.next_solid(at + 1).filter(|_| begins);
            let Some(open) = open.filter(|open| self.tokens[*open].token == Token::LParen) else {
                at += 1;
                continue;
            };
            let argument = self.next_solid(open + 1);
            let close = argument.and_then(|argument| self.next_solid(argument + 1));
            let rule = argument.and_then(|argument| match &self.tokens[argument].token {
                Token::SingleQuotedString(rule) => Some(rule.clone()),
                _ => None,
            });
            let close = close.filter(|close| self.tokens[*close].token == Token::RParen);
            let (Some(rule), Some(close)) = (rule, close) else {
                let message =
                    "`sigma` takes one text, the rule's id or name: sigma('rule id or name')".to_owned();
                return Err(Error::Syntax { message, at: place(self.tokens[at].span) });
            };
            let span = self.tokens[close].span;
            let column = Token::make_word(&hidden_name(&rule), Some('"'));
            let added = [Token::Comma, column].map(|token| TokenWithSpan { token, span });
            self.tokens.splice(close..close, added);
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
            at = close + 2;
        }
        Ok(())
    }
}

fn lower(word: &Word) -> String {
    word.value.to_lowercase()
}

fn joined(words: &[&Word]) -> String {
    words.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join(".")
}

fn is_called(words: &[&Word], name: &str) -> bool {
    !words.is_empty() && joined(words) == name
}

fn is_ours(word: &Word) -> bool {
    word.quote_style.is_none() && QUOTED_FUNCTIONS.iter().any(|name| word.value.eq_ignore_ascii_case(name))
}

pub(crate) fn place(span: Span) -> Option<Place> {
    (span.start.line > 0).then_some(Place { line: span.start.line, column: span.start.column })
}

fn not_allowed(word: &str, at: Option<Place>) -> Error {
    Error::NotAllowed {
        what: format!("`{}`", word.to_lowercase()),
        remedy: "begin with `select`".to_owned(),
        at,
    }
}

/// Whether a query only asks. Its subqueries stand in expressions, where the parser takes nothing but questions.
fn question(query: &SqlQuery) -> bool {
    let with = query.with.as_ref().is_none_or(|with| with.cte_tables.iter().all(|cte| question(&cte.query)));
    with && body(&query.body)
}

fn body(of: &SetExpr) -> bool {
    match of {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => question(query),
        SetExpr::SetOperation { left, right, .. } => body(left) && body(right),
        SetExpr::Values(_) => true,
        _ => false,
    }
}

/// Refuses what would be too deep for whoever goes through the tree by calling itself, and what the parser would be at for too long.
fn bound(tokens: &[TokenWithSpan]) -> Result<(), Error> {
    let solid: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    if solid.len() > MAX_TOKENS {
        return Err(Error::TooLong { what: "words and signs", is: solid.len(), most: MAX_TOKENS });
    }
    // By level of parentheses: whether a word with a syntax of its own has opened it. `case` has none, and ends with `end`; what has
    // neither counts to the end.
    let (mut open, mut cases, mut endless) = (Vec::<bool>::new(), 0_usize, 0_usize);
    let mut operators = 0;
    for (at, token) in solid.iter().enumerate() {
        let bare = |at: Option<usize>| match at.and_then(|at| solid.get(at)).map(|token| &token.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
            _ => String::new(),
        };
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(SPECIAL.contains(&bare(at.checked_sub(1)).as_str()));
            }
            Token::RParen | Token::RBracket | Token::RBrace => drop(open.pop()),
            Token::Word(_) => match bare(Some(at)).as_str() {
                "case" => cases += 1,
                "end" => cases = cases.saturating_sub(1),
                "interval" => {
                    let valued = solid.get(at + 1).map(|next| &next.token);
                    let valued = matches!(valued, Some(Token::SingleQuotedString(_) | Token::Number(..)));
                    endless += usize::from(!valued);
                }
                word => operators += usize::from(OPERATORS.contains(&word)),
            },
            Token::Number(..) | Token::Comma | Token::Period | Token::SingleQuotedString(_) => {}
            _ => operators += 1,
        }
        let special = open.iter().filter(|special| **special).count() + cases + endless;
        for (depth, most) in [(open.len(), MAX_DEPTH), (special, MAX_SPECIAL)] {
            if depth > most {
                return Err(Error::TooDeep { most, at: place(token.span) });
            }
        }
    }
    let joined = solid.iter().filter(|token| token.token == Token::StringConcat).count();
    if joined > MAX_JOINED {
        return Err(Error::TooLong { what: "`||`", is: joined, most: MAX_JOINED });
    }
    if operators > MAX_OPERATORS {
        return Err(Error::TooLong { what: "operators", is: operators, most: MAX_OPERATORS });
    }
    Ok(())
}

/// Words that open a parenthesis with a syntax of their own.
const SPECIAL: [&str; 20] = [
    "cast",
    "try_cast",
    "safe_cast",
    "convert",
    "array",
    "position",
    "substring",
    "substr",
    "overlay",
    "ceil",
    "ceiling",
    "floor",
    "extract",
    "trim",
    "current_date",
    "current_time",
    "current_timestamp",
    "struct",
    "localtime",
    "localtimestamp",
];

/// Words that make the tree deeper without a parenthesis.
const OPERATORS: [&str; 30] = [
    "and",
    "or",
    "xor",
    "not",
    "is",
    "like",
    "ilike",
    "in",
    "between",
    "union",
    "except",
    "intersect",
    "join",
    "collate",
    "at",
    "exists",
    "any",
    "all",
    "div",
    "mod",
    "prior",
    "select",
    "from",
    "with",
    "explain",
    "describe",
    "similar",
    "rlike",
    "regexp",
    "overlaps",
];
