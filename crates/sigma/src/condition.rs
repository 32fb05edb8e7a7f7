//! The condition language: `selection and not 1 of filter_*`.
//!
//! In: a condition's text. Out: [`Condition`], names and patterns still unresolved. `or` binds less than `and`,
//! `and` less than `not`; keywords in any case. Depth and length are bounded.

use crate::fault::{Fault, Place, shown};

/// Longest text of a condition.
const MAX_CHARS: usize = 8192;
/// Deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 48;

/// A condition over search identifiers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// A search identifier, with its place.
    Name(String, Place),
    /// `1 of`, `any of` (false) or `all of` (true) the identifiers that a pattern covers; `them` is `*`.
    Of {
        all: bool,
        pattern: String,
        at: Place,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Open,
    Close,
    And,
    Or,
    Not,
    Of,
    Word(&'a str),
}

/// Parses a condition whose first character stands at `at`; `exact` says that places within it count up from there.
pub(crate) fn parse(text: &str, at: Place, exact: bool) -> Result<Condition, Fault> {
    if text.chars().count() > MAX_CHARS {
        return Err(Fault::new(
            at,
            "condition-too-long",
            format!("a condition has at most {MAX_CHARS} characters"),
        )
        .help("name selections alike and write `1 of name_*`"));
    }
    let mut parser = Parser { tokens: tokens(text, at, exact)?, next: 0, end: at };
    parser.end = parser.tokens.last().map_or(at, |(_, at)| *at);
    let condition = parser.or(0)?;
    match parser.peek() {
        None => Ok(condition),
        Some((Token::Close, at)) => Err(syntax(at, "this parenthesis was never opened")),
        Some((token, at)) => Err(unexpected(token, at)),
    }
}

fn tokens(text: &str, start: Place, exact: bool) -> Result<Vec<(Token<'_>, Place)>, Fault> {
    let mut out = Vec::new();
    let mut column = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = if exact { Place { line: start.line, column: start.column + column } } else { start };
        let length = match c {
            '(' | ')' => {
                out.push((if c == '(' { Token::Open } else { Token::Close }, at));
                1
            }
            c if c.is_whitespace() => c.len_utf8(),
            '|' => {
                return Err(Fault::new(
                    at,
                    "aggregation",
                    "aggregations behind `|` are not part of Sigma 2.1",
                )
                .help("write a correlation in a document of its own"));
            }
            _ => {
                let end =
                    rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '.' | '?')));
                let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or("");
                if word.is_empty() {
                    let message = format!("{} has no place in a condition", shown(&c.to_string()));
                    return Err(syntax(at, message));
                }
                out.push((keyword(word), at));
                word.len()
            }
        };
        let (eaten, tail) = rest.split_at(length);
        column += eaten.chars().count();
        rest = tail;
    }
    Ok(out)
}

fn keyword(word: &str) -> Token<'_> {
    match word.to_ascii_lowercase().as_str() {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "of" => Token::Of,
        _ => Token::Word(word),
    }
}

/// What a condition may be, said with everything that it may not.
fn syntax(at: Place, message: impl Into<String>) -> Fault {
    Fault::new(at, "condition-syntax", message).help(
        "a condition is names, `1 of name_*` and `all of them`, joined by `and`, `or` and `not`, with parentheses",
    )
}

fn unexpected(token: Token<'_>, at: Place) -> Fault {
    let message = match token {
        Token::Word(word) => format!("{} follows without `and` or `or`", shown(word)),
        Token::Open => "a parenthesis opens without `and` or `or` before it".to_owned(),
        Token::Close => "a parenthesis closes here without anything in it".to_owned(),
        Token::And => "`and` stands where a name should".to_owned(),
        Token::Or => "`or` stands where a name should".to_owned(),
        Token::Not => "`not` follows without `and` or `or`".to_owned(),
        Token::Of => "`of` must follow `1`, `any` or `all`".to_owned(),
    };
    syntax(at, message)
}

struct Parser<'a> {
    tokens: Vec<(Token<'a>, Place)>,
    next: usize,
    end: Place,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<(Token<'a>, Place)> {
        self.tokens.get(self.next).copied()
    }

    fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.peek().is_some_and(|(next, _)| next == token);
        self.next += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Condition, Fault> {
        let mut parts = vec![self.and(depth)?];
        while self.eat(Token::Or) {
            parts.push(self.and(depth)?);
        }
        Ok(one_or(parts, Condition::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Condition, Fault> {
        let mut parts = vec![self.not(depth)?];
        while self.eat(Token::And) {
            parts.push(self.not(depth)?);
        }
        Ok(one_or(parts, Condition::And))
    }

    fn not(&mut self, depth: usize) -> Result<Condition, Fault> {
        let Some((token, at)) = self.peek() else {
            return Err(syntax(self.end, "the condition ends where a name should follow"));
        };
        if depth > MAX_DEPTH {
            return Err(Fault::new(
                at,
                "condition-too-deep",
                format!("nested deeper than {MAX_DEPTH} levels"),
            )
            .help("write fewer parentheses and `not`s"));
        }
        self.next += 1;
        match token {
            Token::Not => Ok(Condition::Not(Box::new(self.not(depth + 1)?))),
            Token::Open => {
                let inner = self.or(depth + 1)?;
                if self.eat(Token::Close) {
                    Ok(inner)
                } else {
                    match self.peek() {
                        None => Err(syntax(at, "this parenthesis is never closed")),
                        Some((token, at)) => Err(unexpected(token, at)),
                    }
                }
            }
            Token::Word(word) => self.name_or_quantifier(word, at),
            other => Err(unexpected(other, at)),
        }
    }

    fn name_or_quantifier(&mut self, word: &str, at: Place) -> Result<Condition, Fault> {
        if !self.eat(Token::Of) {
            return Ok(Condition::Name(word.to_owned(), at));
        }
        let all = match word.to_ascii_lowercase().as_str() {
            "all" => true,
            "1" | "any" => false,
            _ => {
                let message = format!("{} of is not part of Sigma 2.1", shown(word));
                return Err(
                    Fault::new(at, "condition-syntax", message).help("write `1 of`, `any of` or `all of`")
                );
            }
        };
        match self.peek() {
            Some((Token::Word(pattern), at)) => {
                self.next += 1;
                let them = pattern.eq_ignore_ascii_case("them");
                Ok(Condition::Of { all, pattern: if them { "*" } else { pattern }.to_owned(), at })
            }
            _ => Err(syntax(at, "`of` must be followed by `them` or a pattern of names")),
        }
    }
}

fn one_or(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

/// Whether `pattern`, in which `*` stands for any characters, covers all of `name`.
pub(crate) fn covers(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: Place = Place { line: 7, column: 14 };

    fn show(condition: &Condition) -> String {
        let join = |parts: &[Condition], by: &str| {
            format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(by))
        };
        match condition {
            Condition::And(parts) => join(parts, " & "),
            Condition::Or(parts) => join(parts, " | "),
            Condition::Not(inner) => format!("!{}", show(inner)),
            Condition::Name(name, _) => name.clone(),
            Condition::Of { all, pattern, .. } => format!("{}<{pattern}>", if *all { "all" } else { "any" }),
        }
    }

    #[test]
    fn precedence_quantifiers_and_case() {
        let shown = |text| show(&parse(text, AT, true).unwrap());
        assert_eq!(shown("a or b and not c"), "(a | (b & !c))");
        assert_eq!(shown("(a or b) AND NOT (c)"), "((a | b) & !c)");
        assert_eq!(shown("1 of sel_* and all of them or any of x"), "((any<sel_*> & all<*>) | any<x>)");
        assert_eq!(shown("not not a"), "!!a");
    }

    #[test]
    fn faults_are_at_their_place() {
        let fault = |text: &str| {
            let fault = parse(text, AT, true).unwrap_err();
            (fault.code, fault.at.column - AT.column)
        };
        assert_eq!(fault("a b"), ("condition-syntax", 2));
        assert_eq!(fault("a and"), ("condition-syntax", 2));
        assert_eq!(fault("a and (b"), ("condition-syntax", 6));
        assert_eq!(fault("a)"), ("condition-syntax", 1));
        assert_eq!(fault("2 of them"), ("condition-syntax", 0));
        assert_eq!(fault("é or ()"), ("condition-syntax", 6));
        assert_eq!(fault("a | count() > 5"), ("aggregation", 2));
        assert_eq!(fault(""), ("condition-syntax", 0));
        assert_eq!(fault(&"(".repeat(1000)), ("condition-too-deep", 49));
        assert_eq!(fault(&"not ".repeat(1000)), ("condition-too-deep", 196));
        assert_eq!(fault(&"a or ".repeat(5000)), ("condition-too-long", 0));
    }

    #[test]
    fn patterns_cover_whole_names() {
        for (pattern, name) in
            [("sel*", "sel"), ("*", "x"), ("a*b*c", "a__b__c"), ("*_x", "a_x"), ("abc", "abc")]
        {
            assert!(covers(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("sel_*", "sel"), ("a*a", "a"), ("abc", "abcd"), ("*_x", "a_x_"), ("ab*ba", "aba")]
        {
            assert!(!covers(pattern, name), "{pattern} {name}");
        }
    }
}
