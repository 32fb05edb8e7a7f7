//! What is decided is enforced and told: real bouncers against the API, in a network of their own; letters by a real mail server; topics of a real
//! Kafka; and a service that tells by both.

mod bouncers;
mod exim;
mod mail;
mod scene;
mod service;
mod topics;
