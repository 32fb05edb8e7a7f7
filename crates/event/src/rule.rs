//! The one name by which decode, detect and correlate speak of a rule.

use serde::{Deserialize, Serialize};

/// Index of a rule (detection or correlation) in the compiled rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RuleIx(pub u32);
