//! JSON records: which members are wanted ([`select`]), in which order they came ([`order`]), and one pass that validates
//! a record and finds them ([`scan`]).

pub mod order;
pub mod scan;
pub mod select;
pub mod text;
pub mod walk;
