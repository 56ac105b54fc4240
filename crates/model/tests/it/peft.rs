//! PEFT folders: what PEFT wrote is read exactly, what is written is read back, and every way in
//! which PEFT would silently run a wrong adapter is an error.

use std::collections::HashMap;
use std::path::Path;

use nightshift_model::{
    Adapter, LoraConfig, ModelConfig, ModelError, Target, adapter_bytes, validate_adapter_dir,
};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{assert_names, copy_of, edit_json, folder, put};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

fn base(name: &str) -> ModelConfig {
    ModelConfig::from_dir(&folder(name)).unwrap()
}

fn load(dir: &Path) -> Result<Adapter, ModelError> {
    Adapter::load(dir, &base("llama3"))
}

/// Name to type, shape and bytes.
type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the tensors of an adapter.
fn edit_tensors(dir: &Path, edit: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(dir.join(TENSORS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    let mut tensors: HashMap<_, _> = tensors.by_ref().collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    put(dir, TENSORS, &safetensors::serialize(views, None).unwrap());
}

fn name(layer: usize, module: &str, factor: char) -> String {
    format!("base_model.model.model.layers.{layer}.{module}.lora_{factor}.weight")
}

#[test]
fn an_all_linear_adapter_has_every_module() {
    let adapter = load(&folder("llama3/adapter")).unwrap();
    assert_eq!(adapter.modules.len(), 14);
    let q = adapter.module(1, Target::Q).unwrap();
    assert_eq!((q.rank, q.scale, q.a.len(), q.b.len()), (4, 2.0, 4 * 32, 64 * 4));
    let facts = validate_adapter_dir(&folder("llama3/adapter"), &base("llama3")).unwrap();
    assert_eq!((facts.rank, facts.alpha, facts.modules, facts.no_effect), (4, 8.0, 14, false));
    assert_eq!(facts.targets, ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]);
    assert_eq!(facts.base_model.as_deref(), Some("nightshift-fixtures/llama3"));
    assert_eq!(facts.parameters, adapter.parameters());
    assert_eq!(facts.digest.len(), 64);
}

#[test]
fn patterns_and_rslora_are_resolved_per_module() {
    let adapter = load(&folder("llama3/adapter-patterns")).unwrap();
    let of = |layer, target| {
        let module = adapter.module(layer, target).unwrap();
        (module.rank, module.scale)
    };
    // alpha / sqrt(rank), alpha and rank from the first pattern that matches.
    assert_eq!(of(0, Target::Q), (8, (6.0 / 8.0_f64.sqrt()) as f32));
    assert_eq!(of(0, Target::K), (4, 8.0));
    assert_eq!(of(1, Target::V), (4, 3.0));
    assert_eq!(of(0, Target::Down), (4, 1.5));
    assert_eq!(of(1, Target::Down), (2, (6.0 / 2.0_f64.sqrt()) as f32));
    assert_eq!(adapter.modules.len(), 8);
}

#[test]
fn a_regular_expression_and_f16_are_read() {
    let adapter = Adapter::load(&folder("qwen3/adapter-regex"), &base("qwen3")).unwrap();
    assert_eq!(adapter.config.targets, [Target::Q, Target::V]);
    assert!(adapter.modules.values().all(|module| module.rank == 3));
}

#[test]
fn what_is_written_is_read_back_the_same_and_has_the_same_bytes() {
    for (model, adapter) in [
        ("llama3", "adapter"),
        ("llama3", "adapter-patterns"),
        ("mistral", "adapter"),
        ("qwen3", "adapter-regex"),
    ] {
        let config = base(model);
        let original = Adapter::load(&folder(&format!("{model}/{adapter}")), &config).unwrap();
        let (json, tensors) = adapter_bytes(&original, &config, "base").unwrap();
        let dir = TempDir::new().unwrap();
        put(dir.path(), CONFIG, &json);
        put(dir.path(), TENSORS, &tensors);
        let again = Adapter::load(dir.path(), &config).unwrap();
        assert_eq!(original, again, "{model}/{adapter}");
        assert_eq!(adapter_bytes(&again, &config, "base").unwrap(), (json, tensors));
    }
}

#[test]
fn the_written_config_has_the_keys_that_other_readers_need() {
    let config = base("qwen2");
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        targets: vec![Target::V, Target::Q],
        rslora: false,
        dropout: 0.05,
        dora: false,
    };
    let adapter = Adapter::<f32>::init(lora.clone(), &config, 7);
    let (bytes, tensors) = adapter_bytes(&adapter, &config, "tiny/base").unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains("\"lora_alpha\": 8,"), "an integer, as Ollama needs: {text}");
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["target_modules"], json!(["q_proj", "v_proj"]));
    assert_eq!(json["lora_dropout"], json!(0.05));
    for key in [
        "peft_type",
        "r",
        "use_rslora",
        "task_type",
        "base_model_name_or_path",
        "bias",
        "rank_pattern",
        "alpha_pattern",
        "use_dora",
        "modules_to_save",
        "fan_in_fan_out",
        "init_lora_weights",
        "inference_mode",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    let file = SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(file.tensor(&name(1, "self_attn.v_proj", 'B')).unwrap().shape(), [16, 4]);
    assert!(tensors[8..].starts_with(b"{\"__metadata__\":{\"format\":\"pt\"}"));

    let dir = TempDir::new().unwrap();
    put(dir.path(), CONFIG, &bytes);
    put(dir.path(), TENSORS, &tensors);
    assert!(validate_adapter_dir(dir.path(), &config).unwrap().no_effect, "B is zero in a fresh adapter");

    // One layer only: short names would promise more than the file holds.
    let mut half = Adapter::<f32>::init(LoraConfig { alpha: 7.5, ..lora }, &config, 7);
    half.modules.retain(|(layer, _), _| *layer == 0);
    let json: serde_json::Value =
        serde_json::from_slice(&adapter_bytes(&half, &config, "b").unwrap().0).unwrap();
    assert_eq!(
        json["target_modules"],
        json!(["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"])
    );
    assert_eq!(json["lora_alpha"], json!(7.5));
}

#[test]
fn target_modules_as_all_linear_patterns_and_layers() {
    let dir = copy_of("llama3/adapter");
    let with = |targets: serde_json::Value| {
        edit_json(dir.path(), CONFIG, |config| config["target_modules"] = targets);
        load(dir.path())
    };
    assert_eq!(with(json!("all-linear")).unwrap().modules.len(), 14);
    assert_eq!(with(json!(r"(?!.*lm_head).*\.[a-z]+_proj")).unwrap().modules.len(), 14);
    let shorts = json!(["q_proj", "k_proj", "v_proj", "o_proj", "mlp.gate_proj", "up_proj", "down_proj"]);
    assert_eq!(with(shorts).unwrap().modules.len(), 14);
    // A part of a name is no suffix, and a pattern must match the whole path.
    assert_names(&with(json!(["proj"])).unwrap_err(), &["layers.0.self_attn.q_proj", "does not cover"]);
    assert_names(&with(json!("q_proj")).unwrap_err(), &["layers.0.self_attn.q_proj", "does not cover"]);
    assert_names(&with(json!("(unclosed")).unwrap_err(), &[CONFIG, "target_modules", "not a pattern"]);
    assert_names(&with(json!(["q_proj", "lm_head"])).unwrap_err(), &[CONFIG, "target_modules", "lm_head"]);
    assert_names(&with(json!(".*")).unwrap_err(), &[CONFIG, "target_modules", "lm_head"]);

    edit_json(dir.path(), CONFIG, |config| {
        config["target_modules"] = json!("all-linear");
        config["exclude_modules"] = json!(["down_proj"]);
    });
    assert_names(&load(dir.path()).unwrap_err(), &["down_proj", "does not cover"]);
    edit_json(dir.path(), CONFIG, |config| {
        config["exclude_modules"] = json!(null);
        config["target_modules"] = json!(["q_proj"]);
        config["layers_to_transform"] = json!([1]);
    });
    edit_tensors(dir.path(), |tensors| tensors.retain(|name, _| name.contains("layers.1.self_attn.q_proj")));
    assert_eq!(load(dir.path()).unwrap().modules.keys().collect::<Vec<_>>(), [&(1, Target::Q)]);
}

#[test]
fn keys_whose_absence_peft_forgives_are_demanded() {
    for key in ["peft_type", "r", "lora_alpha", "use_rslora", "target_modules"] {
        let dir = copy_of("llama3/adapter");
        edit_json(dir.path(), CONFIG, |config| _ = config.as_object_mut().unwrap().remove(key));
        assert_names(&load(dir.path()).unwrap_err(), &[CONFIG, key, "missing"]);
    }
}

#[test]
fn forms_that_are_not_computed_are_refused_by_key() {
    let cases = [
        ("peft_type", json!("LOHA")),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 1]])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("trainable_token_indices", json!([3])),
        ("target_parameters", json!(["x"])),
        ("init_lora_weights", json!("pissa")),
        ("r", json!(0)),
        ("lora_alpha", json!(-1)),
        ("lora_alpha", json!("8")),
        ("rank_pattern", json!({"q_proj": 0})),
    ];
    for (key, value) in cases {
        let dir = copy_of("llama3/adapter");
        edit_json(dir.path(), CONFIG, |config| config[key] = value.clone());
        assert_names(&load(dir.path()).expect_err(key), &[CONFIG, key]);
    }
    // What PEFT writes when these are unused is no reason to refuse.
    let dir = copy_of("llama3/adapter");
    edit_json(dir.path(), CONFIG, |config| {
        config["modules_to_save"] = json!([]);
        config["init_lora_weights"] = json!("gaussian");
        config["a_key_of_tomorrow"] = json!(1);
    });
    load(dir.path()).unwrap();
}

#[test]
fn tensors_that_peft_would_ignore_or_miss_are_named() {
    let q_a = name(0, "self_attn.q_proj", 'A');
    let case = |edit: &dyn Fn(&mut Tensors), parts: &[&str]| {
        let dir = copy_of("llama3/adapter");
        edit_tensors(dir.path(), edit);
        assert_names(&load(dir.path()).unwrap_err(), parts);
    };
    case(&|t| _ = t.remove(&q_a), &[TENSORS, &q_a, "missing"]);
    case(
        &|t| {
            let tensor = t.remove(&q_a).unwrap();
            t.insert(q_a.replace("base_model.model.", ""), tensor);
        },
        &["model.layers.0.self_attn.q_proj.lora_A.weight", "no prefix"],
    );
    let add = |extra: &str, parts: &[&str]| {
        let extra = extra.to_owned();
        case(&move |t| _ = t.insert(extra.clone(), (Dtype::F32, vec![1], vec![0; 4])), parts);
    };
    add("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", &["q_proj", "DoRA"]);
    add("base_model.model.lm_head.lora_A.weight", &["lm_head", "output head"]);
    add("base_model.model.model.embed_tokens.lora_embedding_A", &["embed_tokens", "embedding"]);
    add("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", &["lora_B.bias", "bias"]);
    add("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", &["layers.9", "layer 9", "has 2"]);
    add(
        "base_model.model.model.layers.01.self_attn.q_proj.lora_A.weight",
        &["layers.01", "not a LoRA tensor"],
    );
    add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", &["q_proj", "twice"]);
    add("base_model.model.classifier.weight", &["classifier.weight", "not a LoRA tensor"]);
}

#[test]
fn dora_is_read_and_written_whole_or_refused() {
    for family in ["llama3", "qwen2"] {
        let (config, dora) = (base(family), folder(&format!("../steps/dora-{family}")));
        let original = Adapter::load(&dora, &config).unwrap();
        assert!(original.config.dora && original.modules.values().all(|module| module.dora.is_some()));
        let facts = validate_adapter_dir(&dora, &config).unwrap();
        assert!(facts.dora && !facts.no_effect);
        let (json, tensors) = adapter_bytes(&original, &config, "base").unwrap();
        let dir = TempDir::new().unwrap();
        put(dir.path(), CONFIG, &json);
        put(dir.path(), TENSORS, &tensors);
        assert_eq!(Adapter::load(dir.path(), &config).unwrap(), original);
    }
    let magnitude = "base_model.model.model.layers.1.self_attn.v_proj.lora_magnitude_vector";
    let dir = TempDir::new().unwrap();
    for file in [CONFIG, TENSORS] {
        put(dir.path(), file, &std::fs::read(folder("../steps/dora-llama3").join(file)).unwrap());
    }
    edit_json(dir.path(), CONFIG, |config| config["use_dora"] = json!(false));
    assert_names(&load(dir.path()).unwrap_err(), &["lora_magnitude_vector", "use_dora is not true"]);
    edit_json(dir.path(), CONFIG, |config| config["use_dora"] = json!(true));
    edit_tensors(dir.path(), |tensors| _ = tensors.remove(magnitude));
    assert_names(&load(dir.path()).unwrap_err(), &[magnitude, "missing, but use_dora is true"]);
}

#[test]
fn default_in_names_is_accepted() {
    let dir = copy_of("llama3/adapter");
    edit_tensors(dir.path(), |tensors| {
        *tensors = tensors
            .drain()
            .map(|(name, tensor)| (name.replace(".weight", ".default.weight"), tensor))
            .collect();
    });
    assert_eq!(load(dir.path()).unwrap(), load(&folder("llama3/adapter")).unwrap());
}

#[test]
fn wrong_rank_wrong_base_and_bad_numbers_are_named() {
    let dir = copy_of("llama3/adapter");
    edit_json(dir.path(), CONFIG, |config| config["r"] = json!(8));
    assert_names(&load(dir.path()).unwrap_err(), &["layers.0.self_attn.q_proj.lora_A", "[4, 32]", "[8, 32]"]);
    let error = Adapter::load(&folder("llama3/adapter"), &base("qwen3")).unwrap_err();
    assert_names(&error, &["q_proj.lora_B", "[64, 4]", "[96, 4]", "another base model"]);

    let q_b = name(1, "mlp.up_proj", 'B');
    for bad in [f32::NAN, f32::INFINITY] {
        let dir = copy_of("llama3/adapter");
        edit_tensors(dir.path(), |tensors| {
            tensors.get_mut(&q_b).unwrap().2[8..12].copy_from_slice(&bad.to_le_bytes());
        });
        assert_names(&load(dir.path()).unwrap_err(), &[TENSORS, &q_b, "element 2"]);
    }
    let dir = copy_of("llama3/adapter");
    edit_tensors(dir.path(), |tensors| tensors.get_mut(&q_b).unwrap().0 = Dtype::I32);
    assert_names(&load(dir.path()).unwrap_err(), &[&q_b, "I32"]);
}

#[test]
fn missing_and_pickled_files_are_named() {
    let empty = TempDir::new().unwrap();
    assert_names(&load(empty.path()).unwrap_err(), &[CONFIG, "not found"]);
    put(empty.path(), CONFIG, &std::fs::read(folder("llama3/adapter").join(CONFIG)).unwrap());
    assert_names(&load(empty.path()).unwrap_err(), &[TENSORS, "not found"]);
    put(empty.path(), "adapter_model.bin", b"\x80\x02");
    assert_names(&load(empty.path()).unwrap_err(), &["adapter_model.bin", "safetensors"]);
}
