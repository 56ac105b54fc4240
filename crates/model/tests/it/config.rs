//! config.json: both key layouts, every family, and what is refused.

use std::path::Path;

use nightshift_model::{Family, ModelConfig};
use serde_json::{Value, json};

use crate::fixture::{assert_names, copy_of, edit_json, folder, put};

fn base(extra: Value) -> Value {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn parse(extra: Value) -> Result<ModelConfig, nightshift_model::ModelError> {
    ModelConfig::from_json(Path::new("x/config.json"), &base(extra).to_string())
}

#[test]
fn fixture_folders_are_read_in_both_layouts() {
    let llama = ModelConfig::from_dir(&folder("llama3")).unwrap();
    assert_eq!((llama.family, llama.num_kv_heads, llama.head_dim), (Family::Llama, 2, 16));
    assert_eq!(llama.rope_scaling.unwrap().original_max_position_embeddings, 64);
    // config.json says 1 and 4, the tokenizer says <|eot_id|> = 4.
    assert_eq!(llama.eos_token_ids, [1, 4]);
    let qwen3 = ModelConfig::from_dir(&folder("qwen3")).unwrap();
    assert_eq!((qwen3.rope_theta, qwen3.head_dim, qwen3.qk_norm, qwen3.qkv_bias), (1e6, 24, true, false));
    assert_eq!(qwen3.sliding_window, [None, None]);
    let qwen2 = ModelConfig::from_dir(&folder("qwen2")).unwrap();
    assert_eq!((qwen2.rope_theta, qwen2.qkv_bias, qwen2.o_bias), (1e6, true, false));
    assert_eq!(qwen2.sliding_window, [None, Some(5)]);
    let mistral = ModelConfig::from_dir(&folder("mistral")).unwrap();
    assert_eq!(mistral.sliding_window, [Some(6), Some(6)]);
    let tied = ModelConfig::from_dir(&folder("llama-tied")).unwrap();
    assert!(tied.tie_word_embeddings && tied.qkv_bias && tied.o_bias && tied.mlp_bias);
    assert_eq!(tied.rope_theta, 500_000.0);
}

#[test]
fn what_is_written_is_read_back_the_same() {
    for name in ["llama3", "llama-tied", "mistral", "qwen2", "qwen3"] {
        let config = ModelConfig::from_dir(&folder(name)).unwrap();
        let again = ModelConfig::from_json(Path::new("again"), &config.to_json()).unwrap();
        assert_eq!(config, again, "{name}");
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let llama = parse(json!({})).unwrap();
    assert_eq!((llama.num_kv_heads, llama.head_dim, llama.rope_theta), (4, 16, 10_000.0));
    let mistral =
        parse(json!({"model_type": "mistral", "num_key_value_heads": 2, "head_dim": null})).unwrap();
    assert_eq!((mistral.head_dim, &mistral.sliding_window[..]), (16, &[Some(4096); 3][..]));
    let open = json!({"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": null});
    assert_eq!(parse(open).unwrap().sliding_window, [None; 3]);
    let qwen3 = parse(json!({"model_type": "qwen3", "num_key_value_heads": 2})).unwrap();
    assert_eq!(qwen3.head_dim, 128);
}

#[test]
fn qwen_windows_need_the_switch_and_begin_at_max_window_layers() {
    let qwen = |extra: Value| {
        let mut all = json!({"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 8});
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        parse(all).unwrap().sliding_window
    };
    assert_eq!(qwen(json!({"max_window_layers": 1})), [None; 3]);
    assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 2})), [None, None, Some(8)]);
    let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let typed = qwen(json!({"use_sliding_window": true, "layer_types": types}));
    assert_eq!(typed, [Some(8), None, Some(8)]);
}

#[test]
fn old_and_very_old_rope_keys_are_read() {
    let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
    let config = parse(old).unwrap();
    assert_eq!((config.rope_theta, config.rope_scaling.unwrap().factor), (5e5, 8.0));
    let new = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}});
    assert_eq!(parse(new).unwrap().rope_theta, 7e5);
}

#[test]
fn end_tokens_are_the_union_of_three_files() {
    let dir = copy_of("qwen3");
    put(dir.path(), "generation_config.json", br#"{"eos_token_id": [7, 2]}"#);
    edit_json(dir.path(), "config.json", |config| config["eos_token_id"] = json!(9));
    assert_eq!(ModelConfig::from_dir(dir.path()).unwrap().eos_token_ids, [2, 7, 9]);
}

#[test]
fn what_is_not_computed_is_refused_by_key() {
    let cases = [
        (json!({"model_type": "mixtral"}), ["model_type", "mixtral"]),
        (json!({"num_local_experts": 8}), ["num_local_experts", "experts"]),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), ["rope_scaling.rope_type", "yarn"]),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), ["rope_scaling.rope_type", "linear"]),
        (json!({"rope_scaling": {"factor": 2.0}}), ["rope_scaling.rope_type", "missing"]),
        (json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}), ["rope_theta", "disagrees"]),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}),
            ["rope_parameters", "layer type"],
        ),
        (json!({"partial_rotary_factor": 0.5}), ["partial_rotary_factor", "1.0"]),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            ["quantization_config.quant_method", "gptq"],
        ),
        (json!({"hidden_act": "gelu"}), ["hidden_act", "gelu"]),
        (json!({"num_key_value_heads": 3}), ["num_key_value_heads", "does not divide"]),
        (json!({"head_dim": 15}), ["head_dim", "15"]),
        (json!({"hidden_size": "64"}), ["hidden_size", "whole number"]),
        (json!({"hidden_size": -64}), ["hidden_size", "-64"]),
        (json!({"hidden_size": 0}), ["hidden_size", "zero"]),
        (json!({"num_hidden_layers": 4_000_000_000_u64}), ["num_hidden_layers", "more than"]),
        (json!({"rms_norm_eps": null}), ["rms_norm_eps", "missing"]),
        (json!({"eos_token_id": [1, "x"]}), ["eos_token_id", "token id"]),
        (
            json!({"layer_types": ["full_attention"], "model_type": "qwen2", "num_key_value_heads": 4}),
            ["layer_types", "1 entries for 3"],
        ),
    ];
    for (extra, names) in cases {
        let error = parse(extra.clone()).expect_err(&extra.to_string());
        assert_names(&error, &["x/config.json", names[0], names[1]]);
    }
}

#[test]
fn a_folder_without_config_or_with_a_broken_one_is_named() {
    let dir = copy_of("mistral");
    put(dir.path(), "config.json", b"{\"model_type\": ");
    assert_names(&ModelConfig::from_dir(dir.path()).unwrap_err(), &["config.json", "not JSON", "line 1"]);
    put(dir.path(), "config.json", b"[1]");
    assert_names(&ModelConfig::from_dir(dir.path()).unwrap_err(), &["config.json", "object"]);
    let empty = tempfile::TempDir::new().unwrap();
    assert_names(&ModelConfig::from_dir(empty.path()).unwrap_err(), &["config.json", "not found"]);
}
