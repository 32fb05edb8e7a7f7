//! JSON records: which members are wanted ([`select`]), in which order they came ([`key_order`]), and one pass that validates
//! a record and finds them ([`scan`]); and what is left once some were taken ([`rest`]).

pub mod key_order;
pub mod rest;
pub mod scan;
pub mod select;
pub mod text;
pub mod walk;
