//! What was learned, in `learning.db`: findings, proposals, improvements, metrics and correlations.
//!
//! The documents' four tables with their columns, so that an original file opens and keeps its rows (it is backed up
//! and gains our tables). Writers add in one transaction each; times are RFC 3339 in UTC, those of an original file
//! are compared by the instant that they name.

mod command;
mod keep;
mod place;
mod query;
mod record;

pub use command::{CorrelationsArguments, ImprovementsArguments, MetricsArguments, PatternsArguments};
pub use command::{RecommendationsArguments, StoreArguments};
pub(crate) use command::{correlations, improvements, metrics, patterns, recommendations, store};
pub use keep::{Dropped, prune};
pub use place::{Db, locate, open};
pub use query::{Filter, Statistics, statistics};
pub use query::{read_correlations, read_improvements, read_metrics, read_patterns, read_recommendations};
pub use record::{Metric, store_correlation, store_metric, store_patterns, store_recommendations};
pub(crate) use record::{Stored, store_analysis};
