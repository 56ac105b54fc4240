//! Bases held as NF4 and bf16: folders quantised by bitsandbytes (`scripts/make-nf4-fixtures`),
//! quantising while loading, writing, training through packed weights.

use std::path::{Path, PathBuf};

use nightshift_model::{
    Adapter, Dtype, Grads, Held, LoraConfig, Model, ModelError, Packed, Quantise, Storage, Target, Weight,
    Workspace, evaluate, logits, loss_and_grads,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::fixture::{assert_names, copy_of, edit_json, folder, put};

const FILE: &str = "model.safetensors";
const NF4: Storage = Storage { dtype: Dtype::F32, quantise: Quantise::Nf4 };
const BF16: Storage = Storage { dtype: Dtype::Bf16, quantise: Quantise::None };

fn quantised(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/nf4").join(family)
}

/// A throw-away copy of a quantised fixture.
fn copy_of_quantised(family: &str) -> tempfile::TempDir {
    copy_of(&format!("../nf4/{family}"))
}

/// Every linear layer's weight, by name.
fn packed_weights(model: &Model) -> Vec<(String, &Weight)> {
    let tensors = model.weights.tensors().into_iter();
    let matrices = tensors.filter_map(|named| match named.values {
        Held::Matrix(weight) if weight.nf4().is_some() => Some((named.name, weight)),
        _ => None,
    });
    matrices.collect()
}

fn dequantised(model: &Model) -> Model {
    let mut dense = model.clone();
    for layer in &mut dense.weights.layers {
        for target in Target::ALL {
            let linear = layer.linear_mut(target);
            linear.weight = linear.weight.to_dense();
        }
    }
    dense.weights.embed = dense.weights.embed.to_dense();
    dense.weights.head = dense.weights.head.as_ref().map(Weight::to_dense);
    dense
}

fn adapter(model: &Model) -> Adapter {
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        targets: Target::ALL.to_vec(),
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    let mut adapter = Adapter::init(lora, &model.config, 7);
    for (at, tensor) in adapter.iter_mut().into_iter().enumerate() {
        for (i, value) in tensor.values.iter_mut().enumerate() {
            *value = ((i * 31 + at * 17) % 23) as f32 * 4e-3 - 0.04;
        }
    }
    adapter
}

fn batch(model: &Model) -> Packed {
    let mut packed = Packed::new();
    for length in [17, 9] {
        let tokens: Vec<u32> = (0..length).map(|i| (i * 13 + 5) % model.config.vocab_size as u32).collect();
        packed.push(&tokens, &vec![true; tokens.len()]);
    }
    packed
}

#[test]
fn folders_of_bitsandbytes_give_the_logits_of_their_dequantised_weights() {
    for (family, packed) in [("llama3", 14), ("qwen3", 14)] {
        let model = Model::load(&quantised(family)).unwrap();
        assert_eq!(packed_weights(&model).len(), packed);
        let golden: Value =
            serde_json::from_slice(&std::fs::read(quantised(family).join("logits.json")).unwrap()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(golden["tokens"].clone()).unwrap();
        let ours = logits(&model, None, &tokens).unwrap();
        let vocab = model.config.vocab_size;
        for (part, at) in [("first", 0), ("last", tokens.len() - 1)] {
            let theirs: Vec<f32> = serde_json::from_value(golden[part].clone()).unwrap();
            let ours = &ours[at * vocab..][..vocab];
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{family}, {part}: {worst}");
        }
    }
}

#[test]
fn quantising_while_loading_gives_the_bytes_of_bitsandbytes() {
    for family in ["llama3", "qwen3"] {
        let theirs = Model::load(&quantised(family)).unwrap();
        let ours = Model::load_as(&folder(family), NF4).unwrap();
        let (ours, theirs) = (packed_weights(&ours), packed_weights(&theirs));
        assert_eq!(ours.len(), theirs.len());
        for ((name, ours), (other, theirs)) in ours.iter().zip(&theirs) {
            assert_eq!(name, other);
            assert_eq!(ours.nf4().unwrap().codes(), theirs.nf4().unwrap().codes(), "{family}: {name}");
        }
    }
}

#[test]
fn a_quantised_model_is_written_as_bitsandbytes_writes_it_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load(&quantised("llama3")).unwrap();
    model.save(dir.path()).unwrap();
    assert_eq!(Model::load(dir.path()).unwrap(), model);
    let (ours, theirs) = (
        std::fs::read(dir.path().join(FILE)).unwrap(),
        std::fs::read(quantised("llama3").join(FILE)).unwrap(),
    );
    let (ours, theirs) =
        (SafeTensors::deserialize(&ours).unwrap(), SafeTensors::deserialize(&theirs).unwrap());
    assert_eq!(ours.len(), theirs.len());
    for (name, wanted) in theirs.iter() {
        let found = ours.tensor(name).unwrap();
        assert_eq!((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()), "{name}");
        assert_eq!(found.data(), wanted.data(), "{name}");
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["quantization_config"]["bnb_4bit_quant_type"], "nf4");
    assert_eq!(config["quantization_config"]["bnb_4bit_use_double_quant"], true);
    let first = std::fs::read(dir.path().join(FILE)).unwrap();
    model.save(dir.path()).unwrap();
    assert_eq!(first, std::fs::read(dir.path().join(FILE)).unwrap());
}

#[test]
fn gradients_through_packed_weights_are_those_of_the_dequantised_model() {
    let both = Storage { dtype: Dtype::Bf16, quantise: Quantise::Nf4 };
    // Activations that meet a bf16 matrix are rounded to bf16 (8 bits), the others are not.
    for (storage, loss_bound, bound) in [(NF4, 1e-6, 1e-6), (BF16, 2e-3, 5e-2), (both, 2e-3, 5e-2)] {
        for family in ["llama3", "qwen2"] {
            let model = Model::load_as(&folder(family), storage).unwrap();
            let (adapter, batch) = (adapter(&model), batch(&model));
            let run = |model: &Model| {
                let mut grads = Grads::lora(&adapter);
                let mut workspace = Workspace::new(2);
                let loss =
                    loss_and_grads(model, Some(&adapter), &batch, 0.1, &mut grads, &mut workspace).unwrap();
                (loss.nll_sum, grads)
            };
            let ((ours, grads), (wanted, dense_grads)) = (run(&model), run(&dequantised(&model)));
            assert!((ours - wanted).abs() <= loss_bound * wanted, "{family}: {ours} {wanted}");
            for (ours, wanted) in grads.iter().iter().zip(dense_grads.iter()) {
                let largest = wanted.values.iter().map(|x| x.abs()).fold(0.0, f32::max);
                assert!(largest > 0.0, "{family}: {}", ours.name);
                let worst =
                    ours.values.iter().zip(wanted.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= bound * largest.max(1e-2), "{family}: {}: {worst} of {largest}", ours.name);
            }
            // The numbers are not those of the unquantised model.
            let plain = Model::load(&folder(family)).unwrap();
            let of =
                |model: &Model| evaluate(model, None, &batch, &mut Workspace::new(1)).unwrap()[0].nll_sum;
            assert_ne!(of(&model), of(&plain));
        }
    }
}

#[test]
fn bf16_files_lose_nothing_when_held_as_bf16() {
    let wide = Model::load(&folder("qwen3")).unwrap();
    let narrow = Model::load_as(&folder("qwen3"), BF16).unwrap();
    assert_eq!(Dtype::of_folder(&folder("qwen3")).unwrap(), Dtype::Bf16);
    assert_eq!(Dtype::of_folder(&folder("llama3")).unwrap(), Dtype::F32);
    assert_eq!(dequantised(&narrow), wide);
    assert!(narrow.weights.bytes() * 100 < wide.weights.bytes() * 53);
    let dir = tempfile::tempdir().unwrap();
    narrow.save(dir.path()).unwrap();
    assert_eq!(Model::load(dir.path()).unwrap(), wide);
    assert_eq!(Dtype::of_folder(dir.path()).unwrap(), Dtype::Bf16);
}

#[test]
fn a_packed_base_cannot_be_trained_itself() {
    let mut model = Model::load_as(&folder("llama3"), NF4).unwrap();
    let mut grads = Grads::full(&model);
    let error =
        loss_and_grads(&model, None, &batch(&model), 1.0, &mut grads, &mut Workspace::new(1)).unwrap_err();
    assert_names(&error, &["model.layers.0.self_attn.q_proj.weight", "nf4", "train an adapter"]);
    assert!(grads.with_model(&mut model).is_empty());
}

/// The message with which a quantised fixture is refused after an edit of its tensors.
fn refused(edit: impl Fn(&str, &mut Vec<u8>) -> Option<String>) -> ModelError {
    let dir = copy_of_quantised("llama3");
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().filter_map(|(name, view)| {
        let mut data = view.data().to_vec();
        let name = edit(name, &mut data)?;
        Some((name, view.dtype(), view.shape().to_vec(), data))
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let shape = if name.contains("quant_state") { vec![data.len()] } else { shape.clone() };
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape, data).unwrap())
    });
    put(dir.path(), FILE, &safetensors::serialize(views, None).unwrap());
    Model::load(dir.path()).unwrap_err()
}

/// Keeps every tensor, editing the quant_states as text.
fn state(edit: impl Fn(&str) -> String) -> impl Fn(&str, &mut Vec<u8>) -> Option<String> {
    move |name, data| {
        if name.contains("quant_state") {
            *data = edit(std::str::from_utf8(data).unwrap()).into_bytes();
        }
        Some(name.to_owned())
    }
}

#[test]
fn another_quantisation_is_refused_by_its_name() {
    let error = refused(|name, _| Some(name.replace("__nf4", "__fp4")));
    assert_names(&error, &[FILE, "q_proj.weight", "FP4", "NF4"]);
    assert_names(&refused(state(|text| text.replace("nf4", "fp4"))), &["quant_state", "fp4"]);
    let config = |edit: fn(&mut Value)| {
        let dir = copy_of_quantised("llama3");
        edit_json(dir.path(), "config.json", |value| edit(&mut value["quantization_config"]));
        Model::load(dir.path()).unwrap_err()
    };
    assert_names(&config(|q| q["bnb_4bit_quant_type"] = json!("fp4")), &["bnb_4bit_quant_type", "FP4"]);
    let left_out = config(|q| {
        q.as_object_mut().unwrap().remove("bnb_4bit_quant_type");
    });
    assert_names(&left_out, &["FP4"]);
    assert_names(&config(|q| q["load_in_4bit"] = json!(false)), &["load_in_4bit", "LLM.int8()"]);
    assert_names(&config(|q| q["quant_method"] = json!("gptq")), &["quant_method", "`gptq`"]);
    assert_names(
        &config(|q| q["bnb_4bit_quant_storage"] = json!("bfloat16")),
        &["quant_storage", "bfloat16"],
    );
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let lost = |part: &'static str| {
        move |name: &str, _: &mut Vec<u8>| (!name.ends_with(part)).then(|| name.to_owned())
    };
    assert_names(&refused(lost(".absmax")), &["absmax", "missing"]);
    assert_names(&refused(lost(".quant_map")), &["quant_map", "missing"]);
    assert_names(&refused(lost(".nested_quant_map")), &["nested_quant_map", "missing"]);
    assert_names(&refused(lost("__nf4")), &["q_proj.weight", "without a quant_state"]);
    // Eight-bit scales without their own: not to be read as anything else.
    assert_names(&refused(lost(".nested_absmax")), &["absmax", "U8"]);
    assert_names(
        &refused(state(|text| text.replace("\"blocksize\": 64", "\"blocksize\": 65"))),
        &["blocksize"],
    );
    assert_names(&refused(state(|text| text.replace('[', "[1, "))), &["shape [1, "]);
    assert_names(&refused(state(|_| "{".to_owned())), &["quant_state", "not JSON"]);
    assert_names(&refused(state(|text| text.replace("nested_offset", "offset"))), &["nested_offset"]);
    let error = refused(|name, data| {
        if name.ends_with(".quant_map") {
            data[3] ^= 1;
        }
        Some(name.to_owned())
    });
    assert_names(&error, &["quant_map is not that of NF4"]);
}
