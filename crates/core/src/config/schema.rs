//! Every setting with its type, unit and default. One section a program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::analyze_logs::AnalyzeLogs;
use super::forms::{Ordered, one_or_many};
use super::synergy::Synergy;

/// The whole of `nightshift.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the served model; one pointer, one nightly run key and one calibration each.
    pub target: String,
    /// IANA time zone of "yesterday" and of the nightly date.
    pub time_zone: String,
    /// The base model's folder in Hugging Face layout.
    pub base: Option<PathBuf>,
    /// Section of `memory`.
    pub memory: Memory,
    /// Section of `harvest`.
    pub harvest: Harvest,
    /// Section of `train-lora`.
    pub train: Train,
    /// Section of `serve`.
    pub serve: Serve,
    /// Section of `deploy` (and of `rollback`, which shares its server).
    pub deploy: Deploy,
    /// Section of `nightly`.
    pub nightly: Nightly,
    /// Section of `analyze-logs`.
    pub analyze_logs: AnalyzeLogs,
    /// Section of `synergy-weights`.
    pub synergy: Synergy,
    /// Webhooks.
    pub notify: Notify,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: "nightshift".into(),
            time_zone: "UTC".into(),
            base: None,
            memory: Memory::default(),
            harvest: Harvest::default(),
            train: Train::default(),
            serve: Serve::default(),
            deploy: Deploy::default(),
            nightly: Nightly::default(),
            analyze_logs: AnalyzeLogs::default(),
            synergy: Synergy::default(),
            notify: Notify::default(),
        }
    }
}

/// Settings of the interaction memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// An answer succeeded when its confidence is above this, unless an error or feedback says otherwise.
    pub success_above: f64,
    /// Fewest feedback rows that `memory calibrate` fits on.
    pub calibrate_min: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { success_above: 0.7, calibrate_min: 50 }
    }
}

/// How rewrites are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// By tier of agreement.
    Tiers,
    /// By the formula of the documents (`legacy_score`), kept for comparison.
    Legacy,
}

/// Settings of the harvester.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Harvest {
    /// Also take answers whose confidence is below this (0-1), failed or not.
    pub flag_below: Option<f64>,
    /// Also take this share (0-1) of the window's answers, the least sure first.
    pub flag_share: Option<f64>,
    /// Most interactions that go to the council in one run.
    pub max_items: usize,
    /// What decides acceptance.
    pub scorer: Scorer,
    /// Least `quality_score` of an accepted row under `scorer: legacy`.
    pub min_quality: f64,
    /// Members that must give the same canonical answer.
    pub agree: usize,
    /// The council.
    pub council: Council,
    /// The scan over the night's rows.
    pub scan: Scan,
}

impl Default for Harvest {
    fn default() -> Self {
        Self {
            flag_below: None,
            flag_share: None,
            max_items: 500,
            scorer: Scorer::Tiers,
            min_quality: 0.7,
            agree: 2,
            council: Council::default(),
            scan: Scan::default(),
        }
    }
}

/// The models that rewrite failed answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Council {
    /// The members.
    pub members: Vec<Member>,
    /// Requests in flight at once, over all members.
    pub concurrency: usize,
    /// Attempts per call, the first one included.
    pub attempts: u32,
    /// Most answer tokens.
    pub max_tokens: u32,
    /// Seconds for one call.
    pub timeout_s: f64,
    /// A member whose smallest token probability is below this abstains (0-1; needs log-probabilities).
    pub min_vote_confidence: Option<f64>,
}

impl Default for Council {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            concurrency: 4,
            attempts: 4,
            max_tokens: 1024,
            timeout_s: 60.0,
            min_vote_confidence: None,
        }
    }
}

/// How a member is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberPrompt {
    /// The Agent-0 prompt: query and failed answer, reply in REASONING / ANSWER.
    Agent0,
    /// The original conversation alone; the member does not see the failed answer.
    Blind,
}

/// One council member: any OpenAI-compatible endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Name used in rows and logs.
    pub name: String,
    /// For example `http://127.0.0.1:8101/v1`.
    pub base_url: String,
    /// The model id at that endpoint.
    pub model: String,
    /// Environment variable that holds the API key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// How it is asked.
    #[serde(default = "agent0")]
    pub prompt: MemberPrompt,
}

const fn agent0() -> MemberPrompt {
    MemberPrompt::Agent0
}

/// The scan that looks for one answer or one n-gram over-represented in a night's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scan {
    /// Fewest rows a night needs for the scan to say anything.
    pub min_rows: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self { min_rows: 8 }
    }
}

/// Learning-rate schedule after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// To zero.
    Linear,
    /// Half a cosine to zero.
    Cosine,
    /// No change.
    Constant,
}

/// Type in which the matrices of a frozen base are held; arithmetic is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Four bytes a number
    #[default]
    F32,
    /// Two bytes a number, rounded to nearest
    Bf16,
}

/// Quantisation of the linear layers of a frozen base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Quantize {
    /// As the base's files hold them
    #[default]
    None,
    /// Four bits a number (QLoRA), double quantisation
    Nf4,
}

/// What a training learns from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Supervised fine-tuning: imitate the answers
    #[default]
    Sft,
    /// Direct preference optimisation, on rows with `chosen` and `rejected`
    Dpo,
    /// Kahneman-Tversky optimisation, on rows with `completion` and `label`
    Kto,
}

/// What becomes of examples longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Overlong {
    /// Left out, by name
    #[default]
    Drop,
    /// Cut from the left of the prompt, never in the last answer
    Truncate,
    /// Refused
    Error,
}

/// Who trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// This program.
    Builtin,
    /// The program in `engine_command`.
    Command,
}

/// Settings of the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// LoRA rank.
    pub rank: usize,
    /// LoRA alpha; the update is scaled by alpha / rank.
    pub alpha: f64,
    /// Adapted modules: names, or one entry that is `all-linear` or a regular expression on the path.
    #[serde(deserialize_with = "one_or_many")]
    pub targets: Vec<String>,
    /// Modules left out again, written likewise.
    #[serde(deserialize_with = "one_or_many")]
    pub exclude: Vec<String>,
    /// Ranks of modules that have another one, by pattern; the first that matches counts.
    pub rank_pattern: Ordered<usize>,
    /// Alphas, likewise.
    pub alpha_pattern: Ordered<f64>,
    /// Scale by alpha / sqrt(rank) instead of alpha / rank.
    pub rslora: bool,
    /// Train a magnitude for every output as well.
    pub dora: bool,
    /// Probability of dropping an input of A while training.
    pub dropout: f64,
    /// How much faster B learns than A; 1 is off.
    pub loraplus_lr_ratio: f64,
    /// Noise on the embeddings while training; 0 is off.
    pub neftune_noise_alpha: f64,
    /// Compute each layer again in the backward pass to save memory.
    pub gradient_checkpointing: bool,
    /// Rows in one forward pass.
    pub batch_size: usize,
    /// Passes in one optimiser step.
    pub gradient_accumulation: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the data.
    pub num_epochs: usize,
    /// Schedule after warm-up.
    pub schedule: Schedule,
    /// Warm-up optimiser steps.
    pub warmup_steps: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// L2 norm that gradients are clipped to.
    pub max_grad_norm: f64,
    /// Fewest accepted examples for a training run.
    pub min_examples: usize,
    /// Minutes one nightly training may take; decides how many older rows are sampled.
    pub max_minutes: f64,
    /// Longest example in tokens.
    pub max_length: usize,
    /// What becomes of longer ones.
    pub overlong: Overlong,
    /// What is learned.
    pub objective: Objective,
    /// dpo and kto: how strongly the base, which is the reference, holds.
    pub beta: f64,
    /// dpo: share of pairs that are taken to be judged the wrong way round.
    pub label_smoothing: f64,
    /// kto: weight of wanted answers.
    pub desirable_weight: f64,
    /// kto: weight of unwanted answers.
    pub undesirable_weight: f64,
    /// A file whose conversations a night replays as well as its own answers.
    pub replay: Option<PathBuf>,
    /// Replay rows for each accepted row.
    pub replay_ratio: f64,
    /// Least confidence (smallest token probability) of an answer that is replayed.
    pub replay_above: f64,
    /// Type in which the base's matrices are held.
    pub dtype: Dtype,
    /// Quantisation of the base's linear layers.
    pub quantize: Quantize,
    /// Optimiser steps between checkpoints; 0 counts no steps.
    pub checkpoint_steps: usize,
    /// Minutes between checkpoints; 0 counts no minutes.
    pub checkpoint_minutes: f64,
    /// Share of the questions that is held out, by a hash of the question, to evaluate on while training.
    pub eval_share: f64,
    /// Optimiser steps between evaluations; 0 evaluates after each epoch.
    pub eval_every: usize,
    /// Evaluations without gain after which training stops; 0 never stops.
    pub early_stop: usize,
    /// Nats per token that count as a gain.
    pub early_stop_delta: f64,
    /// Which state is published when there is an evaluation.
    pub keep: Keep,
    /// Most memory a training may take, such as `6GiB`; absent: what the machine has free.
    pub max_memory: Option<String>,
    /// Threads; 0 takes every core.
    pub threads: usize,
    /// Where the arithmetic is done: `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Who trains.
    pub engine: Engine,
    /// Program and arguments of `engine: command`; `{job}`, `{out}` and `{base}` stand for folders.
    pub engine_command: Vec<String>,
    /// Minutes the program may take.
    pub engine_minutes: f64,
    /// Minutes without output or progress after which it counts as stuck.
    pub engine_stale_minutes: f64,
    /// Further environment variables that it may see: `NAME` or `PREFIX*`.
    pub engine_env: Vec<String>,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            targets: ["q_proj", "k_proj", "v_proj", "o_proj"].map(String::from).to_vec(),
            exclude: Vec::new(),
            rank_pattern: Ordered::default(),
            alpha_pattern: Ordered::default(),
            rslora: false,
            dora: false,
            dropout: 0.0,
            loraplus_lr_ratio: 1.0,
            neftune_noise_alpha: 0.0,
            gradient_checkpointing: false,
            batch_size: 4,
            gradient_accumulation: 8,
            learning_rate: 5e-5,
            num_epochs: 3,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            min_examples: 5,
            max_minutes: 30.0,
            max_length: 2048,
            overlong: Overlong::Drop,
            objective: Objective::Sft,
            beta: 0.1,
            label_smoothing: 0.0,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            replay: None,
            replay_ratio: 1.0,
            replay_above: 0.9,
            dtype: Dtype::F32,
            quantize: Quantize::None,
            checkpoint_steps: 25,
            checkpoint_minutes: 10.0,
            eval_share: 0.0,
            eval_every: 0,
            early_stop: 0,
            early_stop_delta: 0.0,
            keep: Keep::Best,
            max_memory: None,
            threads: 0,
            device: "cpu".to_owned(),
            engine: Engine::Builtin,
            engine_command: Vec::new(),
            engine_minutes: 120.0,
            engine_stale_minutes: 15.0,
            engine_env: Vec::new(),
        }
    }
}

/// Which state of a training is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The one with the lowest evaluation loss; the last one when nothing was evaluated.
    Best,
    /// The last one.
    Last,
}

/// Settings of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Address and port.
    pub listen: String,
    /// Requests answered at once.
    pub workers: usize,
    /// Threads of one worker's arithmetic; 0 shares the cores among the workers.
    pub threads: usize,
    /// Requests that may wait; further ones are answered 429.
    pub queue: usize,
    /// Most answer tokens when a request does not say.
    pub max_tokens: usize,
    /// Seconds a request may take.
    pub timeout_s: f64,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Follow the pointer row (`true`), or serve the base and explicitly named adapters only.
    pub follow: bool,
    /// Record every exchange in `capture.db`.
    pub record: bool,
    /// Days that an exchange stays in `capture.db` after `memory` has taken it over.
    pub keep_capture_days: u32,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".into(),
            workers: 1,
            threads: 0,
            queue: 64,
            max_tokens: 512,
            timeout_s: 120.0,
            max_body_bytes: 4 << 20,
            follow: true,
            record: true,
            keep_capture_days: 14,
        }
    }
}

/// What the watch decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Anytime-valid evidence against the incumbent's own rate.
    Evalue,
    /// The fixed rule of the documents: success below 85 % or latency above 1000 ms at the end.
    Fixed,
}

/// Settings of deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deploy {
    /// The server that answers; `http://` and `serve.listen` when absent.
    pub server_url: Option<String>,
    /// Registered evaluation set of the gate.
    pub gate_set: String,
    /// One-sided significance level of the gate.
    pub gate_alpha: f64,
    /// Largest share of gate items that may be lost (0-1).
    pub max_lost_share: f64,
    /// Most answer tokens for a gate item.
    pub gate_max_tokens: u32,
    /// Seconds of watching after the switch.
    pub watch_s: f64,
    /// Fewest observations for a verdict; probes make up the difference.
    pub min_requests: usize,
    /// Chance of ever taking back an equal adapter because of failures.
    pub alpha_failures: f64,
    /// Chance of ever taking back an equal adapter because of latency.
    pub alpha_latency: f64,
    /// An answer counts as slow when it costs more than this times the incumbent's median (or 90th percentile).
    pub latency_tolerance: f64,
    /// What the watch decides by.
    pub rule: Rule,
    /// Further alarm: success below this (0-1).
    pub min_success_rate: Option<f64>,
    /// Further alarm: mean latency above this many milliseconds.
    pub max_latency_ms: Option<f64>,
    /// Seconds after which an unattended tentative switch is taken back; also how long the server may take to
    /// follow a switch.
    pub lease_s: f64,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            server_url: None,
            gate_set: "gate".into(),
            gate_alpha: 0.05,
            max_lost_share: 0.04,
            gate_max_tokens: 256,
            watch_s: 60.0,
            min_requests: 30,
            alpha_failures: 0.03,
            alpha_latency: 0.02,
            latency_tolerance: 1.5,
            rule: Rule::Evalue,
            min_success_rate: None,
            max_latency_ms: None,
            lease_s: 15.0,
        }
    }
}

/// Settings of the nightly run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nightly {
    /// Minutes the harvest may take.
    pub harvest_minutes: f64,
    /// Minutes the training may take.
    pub train_minutes: f64,
    /// Minutes the deployment may take.
    pub deploy_minutes: f64,
    /// Minutes the whole night may take.
    pub total_minutes: f64,
    /// Free disk space that a night needs, in GB (10^9 bytes).
    pub min_disk_gb: f64,
    /// Days that log files are kept.
    pub keep_logs_days: u32,
    /// Releases that are kept although nothing refers to them.
    pub keep_releases: usize,
}

impl Default for Nightly {
    fn default() -> Self {
        Self {
            harvest_minutes: 30.0,
            train_minutes: 30.0,
            deploy_minutes: 10.0,
            total_minutes: 90.0,
            min_disk_gb: 2.0,
            keep_logs_days: 14,
            keep_releases: 5,
        }
    }
}

/// Where news is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Slack-compatible webhook.
    pub webhook: Option<String>,
}
