//! What a query demands of the words and values of an event.
//!
//! In: the conditions of a query, all of which must hold. Out: [`Demand`]. Invariant: of an event for which all conditions are true the index has
//! all that is demanded; what is not understood demands nothing.
//!
//! | condition | demands |
//! |---|---|
//! | `column = 'text'`, `'text' = any(list)` | the whole; its words where that has no key |
//! | `in ('…', …)`, `or` | one of them |
//! | `like`, `ilike`, `starts_with`, `contains` | the words of the pattern that are whole in each text that fits: of `'%a foo b%'` the word `foo` |
//! | `match(column, 'words')` | the words |
//!
//! `not`, `<>`, `is null`, comparisons of two columns and regular expressions that are no prefix demand nothing.

use arrow_schema::Schema;
use datafusion::{
    common::Column,
    logical_expr::{
        BinaryExpr, Expr, Operator,
        expr::{InList, Like},
    },
};

use super::{
    head::Held,
    keys::{column, of_whole, of_word, words},
};

/// Keys of a query at most; beyond, it demands nothing.
const MOST: usize = 2_048;

/// What must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing that an index knows.
    Nothing,
    /// A word or a value.
    Key(Key),
    /// All of these.
    All(Vec<Demand>),
    /// One of these.
    One(Vec<Demand>),
}

/// A word or a value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The column.
    pub(super) column: u64,
    /// As what the table has it.
    pub(super) held: Held,
    /// The key.
    pub(super) key: u64,
}

/// A column that the index may know.
#[derive(Clone, Copy)]
struct Of {
    column: u64,
    held: Held,
}

impl Demand {
    /// Of these conditions on a table of these columns.
    pub(crate) fn of(conditions: &[Expr], schema: &Schema) -> Self {
        let demand = all(conditions.iter().map(|condition| of(condition, schema)));
        let mut keys = 0;
        demand.each(&mut |_| keys += 1);
        if keys > MOST { Self::Nothing } else { demand }
    }

    /// Gives each key.
    pub(super) fn each(&self, take: &mut impl FnMut(Key)) {
        match self {
            Self::Nothing => {}
            Self::Key(key) => take(*key),
            Self::All(parts) | Self::One(parts) => parts.iter().for_each(|part| part.each(take)),
        }
    }

    /// Whether it can be met where keys may be there or not.
    pub(super) fn can_be_met(&self, may_be: &impl Fn(Key) -> bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::Key(key) => may_be(*key),
            Self::All(parts) => parts.iter().all(|part| part.can_be_met(may_be)),
            Self::One(parts) => parts.iter().any(|part| part.can_be_met(may_be)),
        }
    }
}

fn all(parts: impl Iterator<Item = Demand>) -> Demand {
    let mut parts: Vec<Demand> = parts.filter(|part| *part != Demand::Nothing).collect();
    match parts.len() {
        0 => Demand::Nothing,
        1 => parts.remove(0),
        _ => Demand::All(parts),
    }
}

fn one(parts: impl Iterator<Item = Demand>) -> Demand {
    let parts: Vec<Demand> = parts.collect();
    if parts.is_empty() || parts.contains(&Demand::Nothing) { Demand::Nothing } else { Demand::One(parts) }
}

fn of(condition: &Expr, schema: &Schema) -> Demand {
    match condition {
        Expr::Alias(alias) => of(&alias.expr, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => all([of(left, schema), of(right, schema)].into_iter()),
            Operator::Or => one([of(left, schema), of(right, schema)].into_iter()),
            Operator::Eq => {
                let sides = text_of(left, right, schema).or_else(|| text_of(right, left, schema));
                sides.map_or(Demand::Nothing, |(of, text)| equal(of, text))
            }
            _ => Demand::Nothing,
        },
        Expr::InList(InList { expr, list, negated: false }) => one(list.iter().map(|element| {
            let sides = text_of(expr, element, schema);
            sides.map_or(Demand::Nothing, |(of, text)| equal(of, text))
        })),
        Expr::Like(Like {
            negated: false,
            expr,
            pattern,
            escape_char: None | Some('\\'),
            case_insensitive,
        }) => {
            let sides = text_of(expr, pattern, schema);
            sides.map_or(Demand::Nothing, |(of, pattern)| like(of, pattern, *case_insensitive))
        }
        Expr::ScalarFunction(function) => {
            let [first, second] = &function.args[..] else { return Demand::Nothing };
            let name = function.func.name();
            if name == "array_has" {
                let of = column_of(first, schema).filter(|of| of.held == Held::Lists);
                let text = of.zip(literal(second));
                return text.map_or(Demand::Nothing, |(of, text)| equal(of, text));
            }
            let Some((of, text)) = text_of(first, second, schema) else { return Demand::Nothing };
            match name {
                "match" => all(whole_words(of, &Piece { text, begins: true, ends: true })),
                "starts_with" => all(whole_words(of, &Piece { text, begins: true, ends: false })),
                "ends_with" => all(whole_words(of, &Piece { text, begins: false, ends: true })),
                "contains" => all(whole_words(of, &Piece { text, begins: false, ends: false })),
                _ => Demand::Nothing,
            }
        }
        _ => Demand::Nothing,
    }
}

/// A column of texts, and the text that it is compared with.
fn text_of<'a>(value: &Expr, text: &'a Expr, schema: &Schema) -> Option<(Of, &'a str)> {
    let of = column_of(value, schema).filter(|of| of.held == Held::Texts)?;
    Some((of, literal(text)?))
}

fn column_of(of: &Expr, schema: &Schema) -> Option<Of> {
    let Expr::Column(Column { name, .. }) = of else { return None };
    let held = Held::of(schema.field_with_name(name).ok()?.data_type());
    (held != Held::Nothing).then(|| Of { column: column(name), held })
}

fn literal(of: &Expr) -> Option<&str> {
    match of {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

impl Of {
    const fn demand(self, key: u64) -> Demand {
        Demand::Key(Key { column: self.column, held: self.held, key })
    }
}

fn equal(of: Of, text: &str) -> Demand {
    // Who has the whole has its words, so that they would say nothing more.
    let whole = of_whole(of.column, text).map(|key| of.demand(key));
    whole.unwrap_or_else(|| all(whole_words(of, &Piece { text, begins: true, ends: true })))
}

/// A part of a pattern between wildcards.
struct Piece<'a> {
    text: &'a str,
    /// Whether the text begins with it.
    begins: bool,
    /// Whether it ends with it.
    ends: bool,
}

/// The words of a piece that are whole words of each text that has it.
fn whole_words(of: Of, piece: &Piece<'_>) -> impl Iterator<Item = Demand> + use<> {
    let (mut all, mut folded) = (Vec::new(), String::new());
    words(piece.text, &mut folded, |word, place| {
        let begins = place.start > 0 || piece.begins;
        let ends = place.end < piece.text.len() || piece.ends;
        if begins && ends {
            all.push(of.demand(of_word(of.column, word)));
        }
    });
    all.into_iter()
}

fn like(of: Of, pattern: &str, case_ignored: bool) -> Demand {
    // Which letters beyond ASCII are the same is another's table.
    if case_ignored && !pattern.is_ascii() {
        return Demand::Nothing;
    }
    let (mut pieces, mut begins, mut wild) = (Vec::new(), true, false);
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' => {
                pieces.push((std::mem::take(&mut text), begins, false));
                (begins, wild) = (false, true);
            }
            '\\' => text.push(chars.next().unwrap_or('\\')),
            c => text.push(c),
        }
    }
    if !wild && !case_ignored {
        return equal(of, &text);
    }
    pieces.push((text, begins, true));
    all(pieces
        .iter()
        .flat_map(|(text, begins, ends)| whole_words(of, &Piece { text, begins: *begins, ends: *ends })))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};
    use datafusion::prelude::{col, lit};
    use rstest::rstest;

    use super::*;

    fn schema() -> Schema {
        let list = DataType::new_list(DataType::Utf8View, true);
        Schema::new(vec![
            Field::new("t", DataType::Utf8View, true),
            Field::new("l", list, true),
            Field::new("n", DataType::UInt16, true),
        ])
    }

    /// The words that a demand is of, where it wants all of these.
    fn wanted(condition: Expr, words: &[&str]) -> bool {
        let of = Of { column: column("t"), held: Held::Texts };
        let words = words.iter().map(|word| of.demand(of_word(of.column, word)));
        Demand::of(&[condition], &schema()) == all(words)
    }

    #[rstest]
    #[case("foo", &["foo"])]
    #[case("%foo%", &[])]
    #[case("%foo bar%", &[])]
    #[case("%a Foo b%", &["foo"])]
    #[case("foo bar%", &["foo"])]
    #[case("%foo bar", &["bar"])]
    #[case("a_b c d", &["c", "d"])]
    #[case(r"a\_b", &["a", "b"])]
    #[case(r"a%\%b", &["b"])]
    #[case(r"%/b\", &["b"])]
    #[case("%", &[])]
    #[case("%ÄB c", &["c"])]
    fn patterns_demand_the_words_that_are_whole(#[case] pattern: &str, #[case] words: &[&str]) {
        let wild = pattern.contains('%') || pattern.contains("a_b");
        if wild || words.len() == 1 {
            assert!(wanted(col("t").like(lit(pattern)), words), "{pattern}");
        }
        let ignoring = if pattern.is_ascii() { words } else { &[] };
        assert!(wanted(col("t").ilike(lit(pattern)), ignoring), "{pattern}");
        assert_eq!(Demand::of(&[col("t").not_like(lit(pattern))], &schema()), Demand::Nothing);
    }

    #[test]
    fn all_or_one_of_what_is_understood_is_demanded() {
        let of = |conditions: &[Expr]| Demand::of(conditions, &schema());
        let a = of(&[col("t").eq(lit("a"))]);
        assert!(matches!(a, Demand::Key(_)));
        assert_eq!(of(&[lit("a").eq(col("t"))]), a);
        let long = "a.b".repeat(30);
        assert!(matches!(of(&[col("t").eq(lit("a.b"))]), Demand::Key(_)));
        assert!(matches!(of(&[col("t").eq(lit(long))]), Demand::All(_)));
        let n = || col("n").eq(lit(5_u16));
        assert_eq!(of(&[n(), col("t").eq(lit("a"))]), a);
        assert_eq!(of(&[n().and(col("t").eq(lit("a")))]), a);
        assert_eq!(of(&[n().or(col("t").eq(lit("a")))]), Demand::Nothing);
        assert!(
            matches!(of(&[col("t").eq(lit("a")).or(col("t").eq(lit("b")))]), Demand::One(parts) if parts.len() == 2)
        );
        let list = |negated| col("t").in_list(vec![lit("a"), lit("b")], negated);
        assert!(matches!(of(&[list(false)]), Demand::One(parts) if parts.len() == 2));
        for nothing in [
            list(true),
            n(),
            col("t").is_null(),
            col("t").eq(col("t")),
            col("t").not_eq(lit("a")),
            !col("t").eq(lit("a")),
            col("t").in_list(vec![lit("a"), col("t")], false),
            col("u").eq(lit("a")),
        ] {
            assert_eq!(of(std::slice::from_ref(&nothing)), Demand::Nothing, "{nothing}");
        }
        let list = |elements: usize| (0..elements).map(|number| lit(format!("a.{number}"))).collect();
        assert!(of(&[col("t").in_list(list(MOST), false)]) != Demand::Nothing);
        assert!(of(&[col("t").in_list(list(MOST + 1), false)]) == Demand::Nothing);
    }
}
