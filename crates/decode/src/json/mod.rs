//! JSON records: which members are wanted ([`select`]), and one pass that validates a record and finds them ([`scan`]).

pub mod scan;
pub mod select;
pub mod text;
pub mod walk;
