//! What is proven against a real Apache Kafka. Without one (`VEDETTE_KAFKA_LIB`) each test says that it is skipped.

pub mod broker;
mod ingest;
