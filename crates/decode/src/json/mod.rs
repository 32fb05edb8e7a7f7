//! JSON records: which members are wanted ([`select`]), in which order they came ([`key_order`]), and one pass that validates
//! a record and finds them ([`scan`]).

pub mod key_order;
pub mod scan;
pub mod select;
pub mod text;
pub mod walk;
