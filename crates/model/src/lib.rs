//! Llama family: loading, decoding, hand-written backward on CPU and on a device, LoRA, PEFT files.

#![expect(
    clippy::inline_always,
    reason = "loops are compiled for several instruction sets; what is not inlined stays in the oldest one"
)]
#![expect(
    clippy::iter_not_returning_iterator,
    reason = "the parameters of a model are a list of a few hundred names, used as one"
)]

mod attention;
mod backward;
mod base_norms;
pub mod batch;
#[cfg(target_arch = "x86_64")]
mod blocked;
pub mod cache;
pub mod chat;
mod compiled;
pub mod config;
mod config_read;
pub mod decode;
pub mod device;
pub mod dora;
mod draws;
pub mod error;
pub mod example;
pub mod fingerprint;
pub mod footprint;
mod forward;
pub mod generate;
pub mod gguf;
pub mod grads;
mod json_file;
mod linear;
pub mod lora;
pub mod loss;
mod matmul;
pub mod merge;
pub mod modules;
pub mod nf4;
mod norm;
pub mod optim;
mod packed;
pub mod params;
pub mod passes;
pub mod peft;
mod peft_config;
pub mod preference;
pub mod quantise;
pub mod real;
mod rope;
mod shards;
mod simd;
pub mod speed;
pub mod storage;
mod swiglu;
mod tensor_file;
mod tensor_write;
pub mod threads;
pub mod timing;
#[cfg(test)]
mod tiny;
pub mod tokenizer;
pub mod train;
pub mod weight;
mod weights;
pub mod workspace;

pub use base_norms::base_norms;
pub use batch::Packed;
pub use cache::KvCache;
pub use chat::{Chat, ChatTemplate, Message, Rendered};
pub use config::{Family, Llama3Scaling, ModelConfig};
pub use decode::Decoder;
pub use device::{DeviceModel, Place};
pub use dora::Dora;
pub use error::{ModelError, Result};
pub use example::{Example, Judged, Preference, encode_chat, encode_example, encode_text, turns_end};
pub use fingerprint::base_fingerprint;
pub use footprint::{Footprint, Span, base_bytes};
pub use generate::{Finish, GenerateOptions, Generation, TokenOut, generate};
pub use gguf::{AdapterExport, BaseExport, GgufFile, GgufType, GgufValue, export_adapter, export_base};
pub use grads::{Grads, LoraGrad};
pub use lora::{Adapter, Factor, LoraConfig, LoraModule, ModuleKey, Target, peft_name};
pub use loss::Loss;
pub use merge::{Merged, WeightType, merge};
pub use modules::{ModuleForm, ModuleRules};
pub use nf4::Nf4;
pub use optim::{AdamW, Parameter, Schedule, ScheduleKind};
pub use params::{Held, LayerWeights, Linear, Model, Named, Weights};
pub use passes::Limits;
pub use peft::{AdapterFacts, adapter_bytes, validate_adapter_dir};
pub use preference::{Dpo, Kto, PreferenceSum, Score, dpo_loss_and_grads, kto_loss_and_grads};
pub use quantise::{QuantisedFolder, quantise_folder};
pub use real::Real;
pub use speed::{Peak, Work, calibrate};
pub use storage::{Dtype, Quantise, Storage};
pub use threads::Threads;
pub use tokenizer::{TextStream, Tokenizer};
pub use train::{evaluate, logits, loss_and_grads, sequence_grads};
pub use weight::Weight;
pub use workspace::Workspace;
