//! The seven synergy weights and the files around them: contracts with other programs.

/// The metrics, in the order that every file, state vector and report uses.
pub const METRICS: [&str; 7] =
    ["roi", "efficiency", "resilience", "antifragility", "reliability", "maintainability", "throughput"];
