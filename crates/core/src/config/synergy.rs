//! The section of `synergy-weights`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of the synergy weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Synergy {
    /// The weights file; `synergy_weights.json` in the data folder when absent.
    pub weights: Option<PathBuf>,
    /// The recorded history; `synergy_history.db` in the data folder when absent.
    pub history: Option<PathBuf>,
    /// Name of the learner; the default one when absent.
    pub learner: Option<String>,
    /// Step of the learner; its own default when absent.
    pub learning_rate: Option<f64>,
    /// Seconds between two trainings of the auto trainer.
    pub interval_s: f64,
    /// Address that exporter and trainer listen on.
    pub host: String,
    /// Port of the exporter.
    pub port: u16,
    /// Seconds between two checks of an exporter that runs beside the trainer.
    pub check_interval_s: f64,
}

impl Default for Synergy {
    fn default() -> Self {
        Self {
            weights: None,
            history: None,
            learner: None,
            learning_rate: None,
            interval_s: 600.0,
            host: "127.0.0.1".into(),
            port: 8003,
            check_interval_s: 10.0,
        }
    }
}
