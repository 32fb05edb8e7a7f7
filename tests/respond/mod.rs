//! What is decided is enforced: real bouncers against the API, in a network of their own.

mod bouncers;
