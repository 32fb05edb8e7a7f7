//! What is decided is enforced and told: real bouncers against the API, in a network of their own; letters by a real mail server.

mod bouncers;
mod exim;
mod mail;
