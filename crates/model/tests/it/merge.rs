//! Merging: the merged model computes what base and adapter computed, in the files it came in.

use std::path::Path;

use nightshift_model::{Adapter, Merged, Model, ModelConfig, ModelError, WeightType, logits, merge};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tempfile::TempDir;

use crate::fixture::{assert_names, copy_of, folder};

fn merged(family: &str, adapter: &str, out: &Path, kind: Option<WeightType>) -> Result<Merged, ModelError> {
    let config = ModelConfig::from_dir(&folder(family))?;
    let adapter = Adapter::load(&folder(family).join(adapter), &config)?;
    merge(&folder(family), &adapter, out, kind, |_| Ok(()))
}

/// Largest difference of a logit between base + adapter and the folder in `out`.
fn difference(family: &str, adapter: &str, out: &Path) -> f32 {
    let base = Model::load(&folder(family)).unwrap();
    let mut adapter = Adapter::load(&folder(family).join(adapter), &base.config).unwrap();
    adapter.prepare(&base, nightshift_model::Threads::ONE);
    let tokens: Vec<u32> = (0..20).map(|i| i * 37 % 96).collect();
    let apart = logits(&base, Some(&adapter), &tokens).unwrap();
    let together = logits(&Model::load(out).unwrap(), None, &tokens).unwrap();
    apart.iter().zip(&together).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn f32_computes_the_same() {
    for (family, adapter) in [
        ("llama3", "adapter"),
        ("llama3", "adapter-patterns"),
        ("llama-tied", "adapter"),
        ("mistral", "adapter"),
        ("qwen2", "adapter"),
        ("qwen3", "adapter"),
        ("qwen3", "adapter-regex"),
        ("qwen3", "adapter-keys"),
        ("llama3", "adapter-dora"),
        ("qwen3", "adapter-dora"),
    ] {
        let out = TempDir::new().unwrap();
        merged(family, adapter, out.path(), Some(WeightType::F32)).unwrap();
        let found = difference(family, adapter, out.path());
        assert!(found < 1e-4, "{family}/{adapter}: {found}");
    }
}

#[test]
fn shards_types_and_untouched_tensors_stay() {
    let out = TempDir::new().unwrap();
    let made = merged("qwen3", "adapter-regex", out.path(), None).unwrap();
    assert_eq!((made.files, made.changed, made.types.as_slice()), (4, 4, ["BF16".to_owned()].as_slice()));
    for number in 1..=4 {
        let name = format!("model-0000{number}-of-00004.safetensors");
        let (old, new) = (
            std::fs::read(folder("qwen3").join(&name)).unwrap(),
            std::fs::read(out.path().join(&name)).unwrap(),
        );
        let (old, new) = (SafeTensors::deserialize(&old).unwrap(), SafeTensors::deserialize(&new).unwrap());
        assert_eq!(old.len(), new.len());
        for (tensor, view) in old.iter() {
            let after = new.tensor(tensor).unwrap();
            assert_eq!((after.dtype(), after.shape()), (Dtype::BF16, view.shape()));
            let adapted = tensor.contains("q_proj.weight") || tensor.contains("v_proj.weight");
            assert_eq!(after.data() != view.data(), adapted, "{tensor}");
        }
    }
    let found = difference("qwen3", "adapter-regex", out.path());
    assert!(found > 0.0 && found < 0.5, "rounded to bf16 once: {found}");
    let again = TempDir::new().unwrap();
    merged("qwen3", "adapter-regex", again.path(), None).unwrap();
    let name = "model-00001-of-00004.safetensors";
    assert_eq!(
        std::fs::read(out.path().join(name)).unwrap(),
        std::fs::read(again.path().join(name)).unwrap()
    );
}

#[test]
fn another_type_is_written_into_weights_and_config() {
    let out = TempDir::new().unwrap();
    let made = merged("llama3", "adapter", out.path(), Some(WeightType::Bf16)).unwrap();
    let bytes = std::fs::read(out.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.iter().all(|(_, view)| view.dtype() == Dtype::BF16));
    assert_eq!(made.bytes, file.iter().map(|(_, view)| view.data().len() as u64).sum::<u64>());
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.path().join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["dtype"], &config["vocab_size"]), (&"bfloat16".into(), &320.into()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let out = TempDir::new().unwrap();
    let config = ModelConfig::from_dir(&folder("llama3")).unwrap();
    let mut adapter = Adapter::load(&folder("llama3/adapter"), &config).unwrap();
    // 2 * 4e5 overflows f16 and not bf16.
    adapter.modules.values_mut().next().unwrap().b.fill(4e5);
    let run = |kind, out: &Path| merge(&folder("llama3"), &adapter, out, Some(kind), |_| Ok(()));
    assert_names(&run(WeightType::F16, out.path()).unwrap_err(), &["q_proj.weight", "write f32 or bf16"]);
    assert!(!out.path().join("model.safetensors").exists(), "nothing half is left");
    run(WeightType::Bf16, out.path()).unwrap();
    // Another base of another shape.
    let error = merge(&folder("qwen2"), &adapter, out.path(), None, |_| Ok(())).unwrap_err();
    assert_names(&error, &["model.layers.0.mlp.down_proj.weight", "shape"]);
    // A layer that the base does not have.
    let copy = copy_of("llama3");
    let mut deep = Adapter::load(&folder("llama3/adapter"), &config).unwrap();
    let module = deep.modules.pop_last().unwrap().1;
    deep.modules.insert((9, nightshift_model::Target::Down), module);
    let error = merge(copy.path(), &deep, out.path(), None, |_| Ok(())).unwrap_err();
    assert_names(&error, &["does not fit"]);
    // Asked to stop in the middle.
    let stop = |name: &str| {
        if name.contains("layers.1") { Err(ModelError::Input("stopped".into())) } else { Ok(()) }
    };
    let fresh = TempDir::new().unwrap();
    assert_names(&merge(&folder("llama3"), &adapter, fresh.path(), None, stop).unwrap_err(), &["stopped"]);
    assert!(std::fs::read_dir(fresh.path()).unwrap().next().is_none());
}

#[test]
fn dora_is_merged_by_its_formula() {
    // Liu et al. 2024, equation 5, row by row in f64: m (W + s B A) / |W + s B A|.
    let out = TempDir::new().unwrap();
    merged("llama3", "adapter-dora", out.path(), Some(WeightType::F32)).unwrap();
    let config = ModelConfig::from_dir(&folder("llama3")).unwrap();
    let adapter = Adapter::load(&folder("llama3/adapter-dora"), &config).unwrap();
    let read = |folder: &Path, name: &str| -> Vec<f64> {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
    };
    assert_eq!(adapter.modules.len(), 8);
    for ((layer, target), module) in &adapter.modules {
        let name = format!("model.layers.{layer}.{}.weight", target.path());
        let (before, after) = (read(&folder("llama3"), &name), read(out.path(), &name));
        let (rank, input) = (module.rank, module.in_features());
        let magnitude = &module.dora.as_ref().unwrap().magnitude;
        for (row, (before, after)) in before.chunks(input).zip(after.chunks(input)).enumerate() {
            let update = |column: usize| -> f64 {
                let b = &module.b[row * rank..][..rank];
                let terms = b.iter().enumerate();
                terms.map(|(at, b)| f64::from(*b) * f64::from(module.a[at * input + column])).sum()
            };
            let scale = f64::from(module.scale);
            let moved: Vec<f64> =
                before.iter().enumerate().map(|(column, w)| w + scale * update(column)).collect();
            let norm = moved.iter().map(|w| w * w).sum::<f64>().sqrt();
            for (wanted, found) in moved.iter().zip(after) {
                let wanted = f64::from(magnitude[row]) * wanted / norm;
                assert!((wanted - found).abs() < 1e-6, "{name}, row {row}: {wanted} {found}");
            }
        }
    }
}
