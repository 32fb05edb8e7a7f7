//! Detection, the hot path: which events of a batch match which rules.
//!
//! In: a checked rule set and a source definition ([`Program::compile`]), then batches of columns. Out: [`Hit`]s.
//! [`reference`] says the same slowly, one event at a time, and is the oracle for the program.
//!
//! # Rulings
//!
//! - **Case.** Ignoring case means comparing texts after replacing each character by its simple lower-case mapping
//!   (the first character of `char::to_lowercase`): `K` (U+212A) is `k`, `İ` is `i`, `ſ` is not `s`. Wildcards and
//!   plain values use the same folding, and `?` is one character. Regular expressions fold as the `regex` crate does.
//! - **Scalars.** A predicate sees the canonical text of a text, number or boolean; a text that spells a number or a
//!   boolean is treated like it. In lists, elements that are null, lists or objects have no text.
//! - **Several columns.** A field that stands for several columns satisfies a predicate if one of them does; it is null
//!   if all are. `Not` needs a column with a scalar or a list, and that no column satisfies the inner predicate.
//! - **Addresses.** An IPv4-mapped IPv6 address is also the IPv4 address.
//! - **Keywords** see the strings of the event's text: string values (not keys) of JSON at any depth, or the whole record
//!   where the form is no JSON. `Null`, `Exists(false)` and `FieldRef` are false there.

//!
//! # Why it is built so
//!
//! Measured with 3,141 community rules over web and Windows logs, each part taken away in turn. Figures are ratios, because those of
//! two machines differ by three or four.
//!
//! | part | because without it |
//! |---|---|
//! | a rule is looked at only if one of its pivots holds, a set of atoms it cannot do without: about one rule an event is left | 8 to 30 times slower |
//! | what a field's filter found is remembered by class, field and raw value, so that a value seen again is neither unescaped nor folded nor searched; a few thousand values catch most; fields whose values seldom return are left alone | 1.5 to 7 times |
//! | keywords scan an event only for pivots, and are decided when a rule that is left asks | up to 3 times |
//! | rules in classes, by what an event says of its logsource | 1.5 to 2 times |
//! | pivots chosen by a sample of the class's events, not by weights thought out beforehand | 2.2 times on web logs, nothing elsewhere |
//! | a literal is looked for before its regular expression runs | 1.35 times; 28 of 140 expressions over command lines have none |
//! | literals anywhere by grams at a stride, not by one large automaton | 8 to 15 % for a DFA, which takes 122 MB; more for one without a table |
//! | equal predicates of all rules are one atom | 39,916 uses are 8,326 atoms in 366 fields |
//!
//! Three quarters of what is left goes into texts that were not seen before: there one filter a (class, field) makes one pass where
//! predicates by kind would make two to four.

#[cfg(test)]
mod agreement;
mod automaton;
mod class;
mod condition;
pub mod evaluate;
mod filter;
mod fold;
mod json;
mod literal;
mod matcher;
mod memo;
mod networks;
pub mod program;
pub mod reference;
mod relation;
mod training;
mod truth;
pub mod work;

pub use evaluate::Evaluator;
pub use program::{Program, Spread, needed_fields, searches_records};
