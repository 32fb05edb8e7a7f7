//! The invariants of the architecture, enforced by machine.
