//! Model folders: what is read, what is written, and hostile files.

use std::path::Path;

use nightshift_model::{Adapter, Model, ModelConfig, ModelError, base_fingerprint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{assert_names, copy_of, edit_json, folder, put};

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn load(dir: &Path) -> Result<Model, ModelError> {
    Model::load(dir)
}

/// A weights file from a header and its data, and the error it causes.
fn refused(header: &Value, data: &[u8]) -> ModelError {
    refused_bytes(&file(header.to_string().as_bytes(), data))
}

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(data);
    bytes
}

fn refused_bytes(bytes: &[u8]) -> ModelError {
    let dir = copy_of("mistral");
    put(dir.path(), FILE, bytes);
    let error = load(dir.path()).unwrap_err();
    assert_names(&error, &[FILE]);
    error
}

#[test]
fn every_fixture_loads_and_shards_make_one_model() {
    for name in ["llama3", "llama-tied", "mistral", "qwen2", "qwen3"] {
        let model = load(&folder(name)).unwrap();
        assert_eq!(model.weights.layers.len(), 2, "{name}");
        assert_eq!(model.weights.head.is_none(), model.config.tie_word_embeddings);
    }
    // A layer of this folder lies in more than one file.
    let index: Value = serde_json::from_slice(&std::fs::read(folder("qwen3").join(INDEX)).unwrap()).unwrap();
    let of = |part: &str| index["weight_map"][format!("model.layers.0.{part}.weight")].as_str().unwrap();
    assert_ne!(of("self_attn.q_proj"), of("mlp.down_proj"));
}

#[test]
fn a_saved_folder_is_read_back_the_same_with_the_same_bytes_and_fingerprint() {
    for name in ["llama3", "llama-tied", "mistral", "qwen2"] {
        let model = load(&folder(name)).unwrap();
        let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        model.save(one.path()).unwrap();
        load(one.path()).unwrap().save(two.path()).unwrap();
        assert_eq!(model.weights, load(one.path()).unwrap().weights, "{name}");
        for part in [FILE, "config.json"] {
            let read = |dir: &TempDir| std::fs::read(dir.path().join(part)).unwrap();
            assert_eq!(read(&one), read(&two), "{name}/{part}");
        }
        // The layout of config.json and the order in the file do not matter.
        assert_eq!(base_fingerprint(one.path()).unwrap(), base_fingerprint(&folder(name)).unwrap());
    }
}

#[test]
fn a_fingerprint_tells_weights_precision_and_constants_apart() {
    let original = base_fingerprint(&folder("mistral")).unwrap();
    assert_eq!(original.len(), 64);
    let changed = copy_of("mistral");
    let mut bytes = std::fs::read(changed.path().join(FILE)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    put(changed.path(), FILE, &bytes);
    assert_ne!(base_fingerprint(changed.path()).unwrap(), original);
    let other = copy_of("mistral");
    edit_json(other.path(), "config.json", |config| config["rms_norm_eps"] = json!(1e-6));
    assert_ne!(base_fingerprint(other.path()).unwrap(), original);
    let same = copy_of("mistral");
    edit_json(same.path(), "config.json", |config| config["use_cache"] = json!(false));
    assert_eq!(base_fingerprint(same.path()).unwrap(), original);
    // bf16 and the same numbers in f32 round differently from then on.
    let f32_copy = TempDir::new().unwrap();
    load(&folder("qwen3")).unwrap().save(f32_copy.path()).unwrap();
    assert_ne!(base_fingerprint(f32_copy.path()).unwrap(), base_fingerprint(&folder("qwen3")).unwrap());
}

#[test]
fn saving_into_nowhere_names_the_file() {
    let model = load(&folder("mistral")).unwrap();
    let error = model.save(&folder("mistral").join("no/such/folder")).unwrap_err();
    assert_names(&error, &[FILE]);
}

#[test]
fn shapes_that_disagree_with_the_config_are_named() {
    let dir = copy_of("mistral");
    edit_json(dir.path(), "config.json", |config| config["intermediate_size"] = json!(1_000_000));
    let error = load(dir.path()).unwrap_err();
    assert_names(&error, &[FILE, "model.layers.0.mlp.gate_proj.weight", "[48, 32]", "[1000000, 32]"]);
    edit_json(dir.path(), "config.json", |config| {
        config["intermediate_size"] = json!(48);
        config["num_hidden_layers"] = json!(4000);
    });
    assert_names(&load(dir.path()).unwrap_err(), &["model.layers.2.self_attn.q_proj.weight", "missing"]);
    edit_json(dir.path(), "config.json", |config| config["num_hidden_layers"] = json!(1));
    assert_names(&load(dir.path()).unwrap_err(), &["model.layers.1.", "not part of the mistral model"]);
}

#[test]
fn nan_and_infinity_are_named() {
    for (bits, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let dir = copy_of("mistral");
        let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&bits.to_le_bytes());
        put(dir.path(), FILE, &bytes);
        assert_names(
            &load(dir.path()).unwrap_err(),
            &[FILE, "tensor `model.norm.weight`", "element 31", word],
        );
    }
}

#[test]
fn pickled_weights_are_refused_unopened() {
    let dir = copy_of("mistral");
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    nightshift_core::files::remove_file(&dir.path().join(FILE)).unwrap();
    assert_names(&load(dir.path()).unwrap_err(), &[FILE, "not found", INDEX]);
    put(dir.path(), "pytorch_model.bin", &bytes);
    assert_names(&load(dir.path()).unwrap_err(), &["pytorch_model.bin", "safetensors"]);
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = std::fs::read(folder("mistral").join(FILE)).unwrap();
    for cut in [0, 1, 7, 8, 9, 100, 2000, whole.len() / 2, whole.len() - 1] {
        refused_bytes(&whole[..cut]);
    }
    assert_names(&refused_bytes(&whole[..whole.len() - 1]), &["model.norm.weight", "cut short"]);
    let longer: Vec<u8> = whole.iter().copied().chain([0; 3]).collect();
    assert_names(&refused_bytes(&longer), &["3 bytes after the last tensor"]);
}

#[test]
fn a_hostile_header_length_allocates_nothing() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 200_000_000, 1000] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert_names(&refused_bytes(&bytes), &["header claims", "the file has 2"]);
    }
}

#[test]
fn a_header_that_is_no_json_object_is_said() {
    for header in [&b"not json"[..], b"[1, 2]", b"{\"a\": ", b"\xff\xfe", b""] {
        assert_names(&refused_bytes(&file(header, &[])), &["header is not JSON"]);
    }
    let deep = "[".repeat(100_000);
    assert_names(&refused_bytes(&file(format!("{{\"a\":{deep}").as_bytes(), &[])), &["not JSON"]);
}

#[test]
fn hostile_offsets_and_shapes_are_named() {
    let one = |entry: Value| refused(&json!({"evil": entry}), &[0; 16]);
    let f32s = |shape: Value, from: u64, to: u64| json!({"dtype": "F32", "shape": shape, "data_offsets": [from, to]});
    assert_names(&one(f32s(json!([8]), 0, 32)), &["`evil`", "only 16 bytes"]);
    assert_names(&one(f32s(json!([2]), 16, 8)), &["`evil`", "backwards"]);
    assert_names(&one(f32s(json!([2]), 0, 16)), &["`evil`", "does not fit"]);
    assert_names(&one(f32s(json!([1_u64 << 40, 1_u64 << 40]), 0, 16)), &["`evil`", "does not fit"]);
    assert_names(&one(f32s(json!([u64::MAX, 4]), 0, 16)), &["`evil`", "does not fit"]);
    assert_names(&one(f32s(json!([-4]), 0, 16)), &["`evil`", "shape"]);
    assert_names(&one(f32s(json!([2]), 8, 16)), &["`evil`", "hole"]);
    let far = u64::MAX - 3;
    assert_names(&one(f32s(json!([1]), far - 4, far)), &["`evil`"]);
    assert_names(&one(json!({"dtype": "F99", "shape": [4], "data_offsets": [0, 16]})), &["`evil`", "F99"]);
    assert_names(&one(json!({"shape": [4], "data_offsets": [0, 16]})), &["`evil`", "dtype"]);
    assert_names(
        &one(json!({"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]})),
        &["`evil`", "offsets"],
    );
    assert_names(&one(json!(7)), &["`evil`", "dtype"]);
    let overlapping = json!({"a": f32s(json!([3]), 0, 12), "b": f32s(json!([2]), 8, 16)});
    assert_names(&refused(&overlapping, &[0; 16]), &["`b`", "inside the tensor before"]);
    let same = json!({"a": f32s(json!([4]), 0, 16), "b": f32s(json!([4]), 0, 16)});
    assert_names(&refused(&same, &[0; 16]), &["`b`", "inside the tensor before"]);
}

#[test]
fn integer_weights_are_not_taken_for_numbers() {
    let dir = copy_of("mistral");
    let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    let at = bytes.windows(5).position(|part| part == b"\"F32\"").unwrap();
    bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    put(dir.path(), FILE, &bytes);
    assert_names(&load(dir.path()).unwrap_err(), &["I32", "BF16"]);
}

#[test]
fn an_index_cannot_leave_the_folder_or_lie() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let dir = copy_of("qwen3");
        edit_json(dir.path(), INDEX, |index| edit(&mut index["weight_map"]));
        load(dir.path()).unwrap_err()
    };
    let norm = "model.norm.weight";
    for path in
        ["../model.safetensors", "/etc/passwd", "a/../../b", "", ".", "..", "sub/x.safetensors", "a\\b"]
    {
        assert_names(&with(&|map| map[norm] = json!(path)), &[INDEX, norm, "plain file name"]);
    }
    assert_names(&with(&|map| map[norm] = json!(3)), &[INDEX, norm, "file name"]);
    assert_names(&with(&|map| *map = json!([])), &[INDEX, "weight_map"]);
    assert_names(&with(&|map| *map = json!({})), &[INDEX, "weight_map"]);
    let gone = with(&|map| map[norm] = json!("gone.safetensors"));
    assert_names(&gone, &["gone.safetensors", "not found", norm]);
    let moved = with(&|map| map[norm] = json!("model-00001-of-00004.safetensors"));
    assert_names(&moved, &["model-00001", norm, "is not"]);
    let extra = with(&|map| map["phantom"] = json!("model-00001-of-00004.safetensors"));
    assert_names(&extra, &["model-00001", "phantom"]);

    let dir = copy_of("qwen3");
    let shard = dir.path().join("model-00002-of-00004.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    put(dir.path(), "model-00002-of-00004.safetensors", &bytes[..bytes.len() / 2]);
    assert_names(&load(dir.path()).unwrap_err(), &["model-00002-of-00004.safetensors", "cut short"]);
}

#[test]
fn old_rope_tables_and_copies_of_a_tied_head_are_harmless() {
    let dir = copy_of("llama-tied");
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut views: Vec<_> = file.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    let embed = file.tensor("model.embed_tokens.weight").unwrap();
    views.push(("lm_head.weight".to_owned(), embed));
    let norm = file.tensor("model.norm.weight").unwrap();
    views.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), norm));
    put(dir.path(), FILE, &safetensors::serialize(views, None).unwrap());
    assert!(load(dir.path()).unwrap().weights.head.is_none());
}

#[test]
fn random_damage_is_an_error_or_harmless_but_never_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let dir = copy_of("llama3/adapter");
    let config = ModelConfig::from_dir(&folder("llama3")).unwrap();
    let whole = std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            bytes[rng.random_range(0..header)] = rng.random();
        }
        put(dir.path(), "adapter_model.safetensors", &bytes);
        if let Err(error) = Adapter::load(dir.path(), &config) {
            assert_names(&error, &["adapter_model.safetensors"]);
            refused += 1;
        }
    }
    assert!(refused > 150, "only {refused} of 200 were noticed");
}
