//! GGUF files: what is written is what llama.cpp computes with, and no damaged file is believed.
//! `scripts/check-peers` holds the same files against llama.cpp itself.

use std::path::Path;

use nightshift_model::{
    Adapter, GgufFile, GgufType, GgufValue, Model, ModelConfig, Target, export_adapter, export_base,
};
use tempfile::TempDir;

use crate::fixture::{assert_names, copy_of, edit_json, folder, put};

fn config(family: &str) -> ModelConfig {
    ModelConfig::from_dir(&folder(family)).unwrap()
}

fn adapter(family: &str, name: &str) -> Adapter {
    Adapter::load(&folder(family).join(name), &config(family)).unwrap()
}

/// The row of the Hugging Face file that llama.cpp's row comes from, heads being 16 rows high.
fn old_row(row: usize) -> usize {
    let (head, inside) = (row / 16, row % 16);
    head * 16 + (inside % 2) * 8 + inside / 2
}

#[test]
fn an_adapter_keeps_its_effect_under_one_alpha() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.gguf");
    // Ranks 8, 4 and 2, alphas 6, 16 and 3, all by the root of the rank.
    let adapter = adapter("llama3", "adapter-patterns");
    let made = export_adapter(&adapter, &config("llama3"), "tiny", &path).unwrap();
    assert_eq!((made.architecture, made.alpha, made.tensors), ("llama", 6.0, 16));
    // Alpha 3 over the root of 4 is what 6 / 4 is: that one module stays as it is.
    assert_eq!(made.folded, 7);
    let mut file = GgufFile::open(&path).unwrap();
    let text = |value: &str| Some(GgufValue::Text(value.to_owned()));
    assert_eq!(file.get("general.type").cloned(), text("adapter"));
    assert_eq!(file.get("adapter.type").cloned(), text("lora"));
    assert_eq!(file.get("general.architecture").cloned(), text("llama"));
    assert_eq!(file.get("adapter.lora.alpha"), Some(&GgufValue::F32(6.0)));
    for ((layer, target), module) in &adapter.modules {
        let name = match target {
            Target::Q => "attn_q",
            Target::K => "attn_k",
            Target::V => "attn_v",
            _ => "ffn_down",
        };
        let name = format!("blk.{layer}.{name}.weight");
        let a = file.read_f32(&format!("{name}.lora_a")).unwrap();
        let b = file.read_f32(&format!("{name}.lora_b")).unwrap();
        assert_eq!(a, module.a);
        let permuted = matches!(target, Target::Q | Target::K);
        for (row, values) in b.chunks(module.rank).enumerate() {
            let from = if permuted { old_row(row) } else { row };
            for (ours, theirs) in module.b[from * module.rank..].iter().zip(values) {
                // What llama.cpp multiplies with, against what the module does.
                let effect = 6.0 / module.rank as f32 * theirs;
                assert!((effect - module.scale * ours).abs() <= 1e-6 * effect.abs(), "{name} row {row}");
            }
        }
        let dims = |suffix: &str| {
            file.tensors.iter().find(|tensor| tensor.name == format!("{name}.{suffix}")).unwrap().dims.clone()
        };
        assert_eq!(dims("lora_a"), [module.in_features() as u64, module.rank as u64]);
        assert_eq!(dims("lora_b"), [module.rank as u64, module.out_features() as u64]);
    }
}

#[test]
fn qwen_keeps_its_rows_and_plain_lora_its_bytes() {
    let dir = TempDir::new().unwrap();
    for (family, architecture) in [("qwen2", "qwen2"), ("qwen3", "qwen3"), ("mistral", "llama")] {
        let path = dir.path().join(family);
        let adapter = adapter(family, "adapter");
        let made = export_adapter(&adapter, &config(family), "tiny", &path).unwrap();
        assert_eq!((made.architecture, made.folded), (architecture, 0));
        let mut file = GgufFile::open(&path).unwrap();
        let q = file.read_f32("blk.1.attn_q.weight.lora_b").unwrap();
        assert_eq!(q == adapter.module(1, Target::Q).unwrap().b, architecture != "llama", "{family}");
        let v = file.read_f32("blk.1.attn_v.weight.lora_b").unwrap();
        assert_eq!(v, adapter.module(1, Target::V).unwrap().b);
        let bytes = std::fs::read(&path).unwrap();
        export_adapter(&adapter, &config(family), "tiny", &path).unwrap();
        assert_eq!(bytes, std::fs::read(&path).unwrap(), "the same adapter, the same bytes");
    }
    let windows = |family| {
        export_adapter(&adapter(family, "adapter"), &config(family), "x", &dir.path().join("w"))
            .unwrap()
            .windowed_layers
    };
    assert_eq!((windows("mistral"), windows("qwen2"), windows("qwen3")), (2, 1, 0));
}

#[test]
fn a_base_has_its_constants_its_tensors_and_its_vocabulary() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("base.gguf");
    let made = export_base(&folder("llama3"), "tiny", GgufType::F32, true, &path).unwrap();
    assert_eq!((made.architecture, made.vocabulary, made.windowed_layers), ("llama", 320, 0));
    let model = Model::load(&folder("llama3")).unwrap();
    let mut file = GgufFile::open(&path).unwrap();
    let count = |key: &str| match file.get(key) {
        Some(GgufValue::U32(value)) => *value,
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(count("llama.block_count"), 2);
    assert_eq!((count("llama.attention.head_count_kv"), count("llama.attention.key_length")), (2, 16));
    assert_eq!((count("tokenizer.ggml.bos_token_id"), count("tokenizer.ggml.eos_token_id")), (0, 4));
    assert_eq!(file.get("tokenizer.ggml.add_bos_token"), Some(&GgufValue::Bool(true)));
    assert_eq!(file.get("tokenizer.ggml.pre"), Some(&GgufValue::Text("gpt-2".to_owned())));
    assert!(
        matches!(file.get("tokenizer.chat_template"), Some(GgufValue::Text(text)) if text.contains("eot_id"))
    );
    let Some(GgufValue::Array(tokens)) = file.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    assert_eq!(
        (tokens.len(), &tokens[4], &tokens[319]),
        (320, &GgufValue::Text("<|eot_id|>".to_owned()), &GgufValue::Text("[PAD319]".to_owned()))
    );
    assert_eq!(file.read_f32("output.weight").unwrap(), model.weights.head());
    let q = file.read_f32("blk.0.attn_q.weight").unwrap();
    let ours = &model.weights.layers[0].q.weight;
    assert_eq!(q[32..64], ours[old_row(1) * 32..][..32]);
    // 1 / 1.0, 0.3162 / 0.2444 … (the frequencies of training anchors divide theta's powers).
    let divisors = file.read_f32("rope_freqs.weight").unwrap();
    assert!((divisors[0] - 1.0).abs() < 1e-6 && (divisors[7] - 8.0).abs() < 1e-5, "{divisors:?}");

    // Half precision rounds matrices and leaves vectors alone.
    export_base(&folder("qwen3"), "tiny", GgufType::F16, true, &path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let kind = |name: &str| file.tensors.iter().find(|tensor| tensor.name == name).unwrap().kind;
    assert_eq!(kind("blk.0.attn_q.weight"), GgufType::F16);
    assert_eq!(
        (kind("blk.0.attn_q_norm.weight"), kind("output_norm.weight")),
        (GgufType::F32, GgufType::F32)
    );
}

#[test]
fn a_tokenizer_that_llama_cpp_would_read_differently_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("base.gguf");
    let refused = |base: &Path| export_base(base, "x", GgufType::F32, true, &path).unwrap_err();
    assert_names(&refused(&folder("mistral")), &["tokenizer.json", "leave the vocabulary out"]);
    let copy = copy_of("llama3");
    put(copy.path(), "tokenizer.json", &std::fs::read(folder("bytefallback/tokenizer.json")).unwrap());
    assert_names(&refused(copy.path()), &["tokenizer.json", "no byte-level BPE"]);
    let copy = copy_of("llama3");
    edit_json(copy.path(), "tokenizer.json", |value| {
        value["pre_tokenizer"]["add_prefix_space"] = true.into();
    });
    assert_names(&refused(copy.path()), &["pre-tokenizer"]);
    let copy = copy_of("llama3");
    edit_json(copy.path(), "tokenizer.json", |value| {
        value["normalizer"] = serde_json::json!({"type": "Lowercase"});
    });
    assert_names(&refused(copy.path()), &["Lowercase"]);
    assert!(!path.exists(), "nothing half is left");
    assert_eq!(export_base(&folder("mistral"), "x", GgufType::F32, false, &path).unwrap().vocabulary, 0);
}

#[test]
fn a_damaged_file_is_an_error_wherever_it_is_cut() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.gguf");
    export_adapter(&adapter("qwen3", "adapter-regex"), &config("qwen3"), "tiny", &path).unwrap();
    let good = std::fs::read(&path).unwrap();
    for end in (0..good.len()).step_by(7) {
        put(dir.path(), "cut.gguf", &good[..end]);
        assert!(GgufFile::open(&dir.path().join("cut.gguf")).is_err(), "cut at {end}");
    }
    for (at, byte, part) in [(0, b'X', "GGUF"), (4, 9, "version 9"), (14, 0xff, "count"), (22, 0xff, "count")]
    {
        let mut bad = good.clone();
        bad[at] = byte;
        put(dir.path(), "bad.gguf", &bad);
        assert_names(&GgufFile::open(&dir.path().join("bad.gguf")).unwrap_err(), &["bad.gguf", part]);
    }
    let mut file = GgufFile::open(&path).unwrap();
    assert_names(&file.read_f32("nothing").unwrap_err(), &["nothing", "missing"]);
}
