//! Alerts by brute force, written from the semantics and not from the engine.
