//! Tests of the routes, in process and against a real store.
