//! Which servers take an adapter of which form, and with which flag: one table, asked before a
//! training, by `inspect` and by `export`.
//!
//! What each refuses was read in its source or found by running it (vLLM 0.33, llama.cpp of September
//! 2026, Ollama of August 2026, PEFT 0.21).

use std::path::Path;

use nightshift_core::files;
use nightshift_core::release::ADAPTER_CONFIG;
use nightshift_model::{Adapter, ModelConfig};
use serde::Serialize;
use serde_json::Value;

/// The ranks that vLLM's `--max-lora-rank` accepts.
const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];
/// What vLLM assumes without the flag.
const VLLM_DEFAULT_RANK: usize = 16;
/// Initialisations that rewrite the base: A and B alone do not describe the model.
const PLAIN_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What decides whether a server takes an adapter.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Form {
    /// Largest rank of any module.
    pub(crate) rank: usize,
    /// Weights decomposed into magnitude and direction.
    pub(crate) dora: bool,
    /// Modules saved whole beside the factors.
    pub(crate) saved_modules: bool,
    /// Trained biases.
    pub(crate) bias: bool,
    /// LoRA on the output head or the embedding.
    pub(crate) on_head: bool,
    /// An initialisation that changed the base.
    pub(crate) rewrites_base: Option<String>,
    /// Layers of the base that look through a sliding window.
    pub(crate) windowed_layers: usize,
}

/// Whether one server takes the adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// The server.
    pub(crate) server: &'static str,
    /// It takes the adapter.
    pub(crate) takes: bool,
    /// The command or flag, or the reason for a refusal.
    pub(crate) how: String,
}

/// Forms that a server refuses, with the reason that a person is told.
struct Refuses {
    dora: Option<&'static str>,
    saved_modules: Option<&'static str>,
    bias: Option<&'static str>,
    on_head: Option<&'static str>,
    max_rank: usize,
    rewrites_base: bool,
}

const MERGE: &str = "merge it: `train-lora merge`";

const VLLM: Refuses = Refuses {
    dora: Some("vLLM does not support DoRA"),
    saved_modules: Some("vLLM refuses modules_to_save"),
    bias: Some("vLLM refuses adapters with biases"),
    on_head: None,
    max_rank: 512,
    rewrites_base: true,
};

const LLAMA_CPP: Refuses = Refuses {
    dora: Some("llama.cpp has no DoRA"),
    saved_modules: Some("llama.cpp loads no saved modules"),
    bias: Some("llama.cpp loads no biases from an adapter"),
    on_head: Some("llama.cpp refuses LoRA on a tied head and aborts on LoRA on the embedding"),
    max_rank: usize::MAX,
    rewrites_base: true,
};

impl Form {
    /// The form of an adapter in memory: one that is about to be trained.
    pub(crate) fn of(adapter: &Adapter, base: &ModelConfig) -> Self {
        Self {
            rank: adapter.modules.values().map(|module| module.rank).max().unwrap_or(0),
            dora: adapter.config.dora,
            windowed_layers: base.sliding_window.iter().flatten().count(),
            ..Self::default()
        }
    }

    /// The form that a folder's `adapter_config.json` declares; `None` when it cannot be read.
    pub(crate) fn declared(dir: &Path) -> Option<Self> {
        let text = files::read_text(&dir.join(ADAPTER_CONFIG)).ok()?;
        let config: Value = serde_json::from_str(&text).ok()?;
        let ranks = config["rank_pattern"].as_object().into_iter().flatten().map(|(_, rank)| rank);
        let rank = ranks.chain([&config["r"]]).filter_map(Value::as_u64).max().unwrap_or(0);
        let filled = |key: &str| match &config[key] {
            Value::Array(list) => !list.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => false,
        };
        let init = config["init_lora_weights"].as_str().filter(|init| !PLAIN_INITS.contains(init));
        let head =
            |name: &str| ["lm_head", "embed_tokens"].contains(&name.rsplit('.').next().unwrap_or(name));
        let targets = config["target_modules"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            rank: rank as usize,
            dora: config["use_dora"] == true,
            saved_modules: filled("modules_to_save"),
            bias: config["lora_bias"] == true || config["bias"].as_str().is_some_and(|bias| bias != "none"),
            on_head: targets.into_iter().any(head),
            rewrites_base: init.map(str::to_owned),
            windowed_layers: 0,
        })
    }

    /// Every server's verdict. `name` stands for the adapter's folder in the commands.
    pub(crate) fn verdicts(&self, name: &str) -> Vec<Verdict> {
        let verdict = |server, refusal: Option<String>, how: String| Verdict {
            server,
            takes: refusal.is_none(),
            how: refusal.unwrap_or(how),
        };
        let export = format!("train-lora export --format gguf --adapter {name} --out adapter.gguf");
        let window = if self.windowed_layers > 0 {
            format!(
                " (it ignores the sliding window of {} layers: answers differ beyond it)",
                self.windowed_layers
            )
        } else {
            String::new()
        };
        let llama = self.refusal(&LLAMA_CPP);
        vec![
            verdict("nightshift serve", self.refusal_of_ours(), format!("deploy {name}")),
            verdict("PEFT", None, format!("PeftModel.from_pretrained(base, \"{name}\")")),
            verdict("vLLM", self.refusal(&VLLM), self.vllm_flags(name)),
            verdict(
                "llama.cpp",
                llama.clone(),
                format!("{export}; llama-server -m BASE.gguf --lora adapter.gguf{window}"),
            ),
            verdict("Ollama", llama, format!("{export}; in the Modelfile: ADAPTER ./adapter.gguf{window}")),
        ]
    }

    /// Sentences about servers that will refuse what is about to be trained.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let refused = self.verdicts("DIR").into_iter().filter(|verdict| !verdict.takes);
        refused
            .map(|Verdict { server, how, .. }| format!("{server} will not take this adapter: {how}"))
            .collect()
    }

    /// Why llama.cpp does not take it, if so.
    pub(crate) fn refused_by_llama_cpp(&self) -> Option<String> {
        self.refusal(&LLAMA_CPP)
    }

    fn refusal(&self, server: &Refuses) -> Option<String> {
        let reason = [
            (self.dora, server.dora),
            (self.saved_modules, server.saved_modules),
            (self.bias, server.bias),
            (self.on_head, server.on_head),
        ]
        .into_iter()
        .find_map(|(has, why)| why.filter(|_| has));
        if let Some(why) = reason {
            return Some(format!("{why}; {MERGE}"));
        }
        if self.rank > server.max_rank {
            return Some(format!("rank {} is above {}; {MERGE}", self.rank, server.max_rank));
        }
        let init = self.rewrites_base.as_ref().filter(|_| server.rewrites_base)?;
        Some(format!("its initialisation `{init}` changed the base; convert it to plain LoRA"))
    }

    /// What `serve` and this program cannot compute.
    fn refusal_of_ours(&self) -> Option<String> {
        let why = match self {
            Self { saved_modules: true, .. } => "modules_to_save are not supported",
            Self { bias: true, .. } => "biases are not supported",
            Self { on_head: true, .. } => "LoRA on head or embedding is not supported",
            Self { rewrites_base: Some(_), .. } => "its initialisation changed the base",
            _ => return None,
        };
        Some(why.to_owned())
    }

    fn vllm_flags(&self, name: &str) -> String {
        let needed = VLLM_RANKS.into_iter().find(|rank| *rank >= self.rank).unwrap_or(self.rank);
        let rank =
            if self.rank > VLLM_DEFAULT_RANK { format!(" --max-lora-rank {needed}") } else { String::new() };
        format!("vllm serve BASE --enable-lora{rank} --lora-modules NAME={name}")
    }
}

/// Bytes of an adapter's file: its numbers in f32, and what the header says of two tensors for each module.
pub(crate) fn adapter_bytes(adapter: &Adapter) -> u64 {
    let factors =
        adapter.modules.values().map(|module| (module.rank, module.in_features(), module.out_features()));
    let magnitudes = adapter.modules.values().filter(|module| module.dora.is_some());
    file_bytes(factors)
        + magnitudes.map(|module| (4 * module.out_features() + HEADER_BYTES) as u64).sum::<u64>()
}

/// As [`adapter_bytes`] of modules given as rank, inputs and outputs: A and B together hold
/// rank x (inputs + outputs) numbers.
fn file_bytes(modules: impl Iterator<Item = (usize, usize, usize)>) -> u64 {
    modules.map(|(rank, input, out)| (4 * rank * (input + out) + 2 * HEADER_BYTES) as u64).sum()
}

/// What the header says of one tensor.
const HEADER_BYTES: usize = 140;

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_core::files;

    fn form(config: &str) -> Form {
        let dir = tempfile::tempdir().unwrap();
        files::write_atomic(&dir.path().join(ADAPTER_CONFIG), config.as_bytes()).unwrap();
        Form::declared(dir.path()).unwrap()
    }

    fn takes(form: &Form) -> Vec<&'static str> {
        form.verdicts("x").into_iter().filter(|verdict| verdict.takes).map(|verdict| verdict.server).collect()
    }

    #[test]
    fn the_defaults_on_a_7b_shape_take_about_50_mb() {
        // Mistral 7B: hidden 4096, keys and values 1024 wide, 32 layers; rank 16 on q, k, v, o.
        let widths = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096)];
        let modules = (0..32).flat_map(|_| widths).map(|(input, out)| (16, input, out));
        let bytes = file_bytes(modules);
        assert_eq!(bytes, 4 * 16 * 32 * (2 * 8192 + 2 * 5120) + 2 * 128 * 140);
        assert!((54.0..55.0).contains(&(bytes as f64 / 1e6)), "{bytes}");
    }

    #[test]
    fn the_table() {
        let plain =
            form(r#"{"r": 16, "bias": "none", "init_lora_weights": true, "target_modules": ["q_proj"]}"#);
        assert_eq!(takes(&plain).len(), 5);
        assert!(!plain.verdicts("x")[2].how.contains("--max-lora-rank"));
        let large = form(r#"{"r": 16, "rank_pattern": {"q_proj": 65}}"#);
        assert!(large.verdicts("x")[2].how.contains("--max-lora-rank 128"), "{:?}", large.verdicts("x"));
        assert_eq!(takes(&form(r#"{"r": 600}"#)), ["nightshift serve", "PEFT", "llama.cpp", "Ollama"]);
        let dora = form(r#"{"r": 8, "use_dora": true}"#);
        assert_eq!(takes(&dora), ["nightshift serve", "PEFT"]);
        assert!(dora.warnings()[0].contains("vLLM") && dora.warnings()[0].contains("train-lora merge"));
        assert_eq!(takes(&form(r#"{"r": 8, "modules_to_save": ["lm_head"]}"#)), ["PEFT"]);
        assert_eq!(takes(&form(r#"{"r": 8, "bias": "lora_only"}"#)), ["PEFT"]);
        assert_eq!(takes(&form(r#"{"r": 8, "target_modules": ["lm_head"]}"#)), ["PEFT", "vLLM"]);
        assert_eq!(takes(&form(r#"{"r": 8, "init_lora_weights": "pissa"}"#)), ["PEFT"]);
        let windowed = Form { rank: 8, windowed_layers: 2, ..Form::default() };
        assert!(windowed.verdicts("x")[3].how.contains("sliding window of 2 layers"));
    }
}
