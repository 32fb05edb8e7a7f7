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
pub use program::{Program, needed_fields, searches_records};
