//! Logits, losses and gradients of every family against transformers and PEFT.

use nightshift_model::{Adapter, Grads, Model, Packed, Threads, Weights, Workspace, logits, loss_and_grads};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::{folder, json};

/// Largest difference of a logit.
const LOGIT: f32 = 1e-4;
/// Largest difference of a loss, and of a gradient against the largest of its tensor.
const RELATIVE: f64 = 1e-4;

struct Golden {
    numbers: Value,
    tensors: Vec<u8>,
}

impl Golden {
    fn read(family: &str) -> Self {
        let tensors = std::fs::read(folder(family).join("golden.safetensors")).unwrap();
        Self { numbers: json(&format!("{family}/golden.json")), tensors }
    }

    fn sequences(&self) -> Vec<(Vec<u32>, Vec<bool>)> {
        let of = |key: &str| self.numbers[key].as_array().unwrap().clone().into_iter();
        let token = |value| serde_json::from_value(value).unwrap();
        let scored = |value| serde_json::from_value(value).unwrap();
        of("tokens").map(token).zip(of("scored").map(scored)).collect()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file.tensor(name).unwrap();
        view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Compares one run ("base" or the name of an adapter folder) of a family.
fn compare(family: &str, run: &str) {
    let golden = Golden::read(family);
    let model = Model::load(&folder(family)).unwrap();
    let mut adapter =
        (run != "base").then(|| Adapter::load(&folder(&format!("{family}/{run}")), &model.config).unwrap());
    if let Some(adapter) = &mut adapter {
        adapter.prepare(&model, Threads::new(2));
    }
    let dora = adapter.as_ref().is_some_and(|adapter| adapter.config.dora);
    let mut packed = Packed::new();
    for (index, (tokens, scored)) in golden.sequences().into_iter().enumerate() {
        let ours = logits(&model, adapter.as_ref(), &tokens).unwrap();
        let theirs = golden.tensor(&format!("{run}/logits.{index}"));
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < LOGIT, "{family}/{run}: logits of sequence {index} differ by {worst}");
        packed.push(&tokens, &scored);
    }

    let mut grads = adapter.as_ref().map_or_else(|| Grads::full(&model), Grads::lora);
    // Beneath DoRA the norms of the weights are constants, so their gradients are nobody's.
    grads.weights = (!dora).then(|| Weights::zeros(&model.config));
    let scale = 1.0 / packed.scored() as f32;
    let mut workspace = Workspace::new(2);
    let report =
        loss_and_grads(&model, adapter.as_ref(), &packed, scale, &mut grads, &mut workspace).unwrap();
    let expected = &golden.numbers["runs"][run];
    let (ours, theirs) = (report.nll_sum / report.tokens as f64, expected["loss"].as_f64().unwrap());
    assert!((ours / theirs - 1.0).abs() < RELATIVE, "{family}/{run}: loss {ours}, torch {theirs}");
    compare_gradients(&golden, run, &format!("{family}/{run}"), &grads, expected);
}

fn compare_gradients(golden: &Golden, run: &str, label: &str, grads: &Grads, expected: &Value) {
    let expected = expected["gradients"].as_object().unwrap();
    let ours = grads.iter();
    assert_eq!(ours.len(), expected.len(), "{label}: number of gradients");
    for named in &ours {
        let name = named.name.trim_start_matches("base_model.model.");
        let torch = expected.get(name).unwrap_or_else(|| panic!("{label}: torch has no {name}"));
        let largest = torch["max"].as_f64().unwrap();
        assert!(largest > 0.0, "{label}: gradient of {name} is zero");
        let close = |at: usize, theirs: f64| {
            let difference = (f64::from(named.values[at]) - theirs).abs();
            let value = named.values[at];
            assert!(difference < RELATIVE * largest, "{label}: {name}[{at}] is {value}, torch has {theirs}");
        };
        let at: Vec<usize> = serde_json::from_value(torch["at"].clone()).unwrap();
        let values: Vec<f64> = serde_json::from_value(torch["values"].clone()).unwrap();
        at.into_iter().zip(values).for_each(|(at, theirs)| close(at, theirs));
        if name.contains(".lora_") || named.shape.len() == 1 {
            let whole = golden.tensor(&format!("{run}/grad/{name}"));
            assert_eq!(whole.len(), named.values.len());
            whole.into_iter().enumerate().for_each(|(at, theirs)| close(at, f64::from(theirs)));
        }
        let norm = named.values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let theirs = torch["norm"].as_f64().unwrap();
        assert!((norm / theirs - 1.0).abs() < RELATIVE, "{label}: norm of {name} is {norm}, torch {theirs}");
    }
}

#[test]
fn llama_with_grouped_queries_and_llama3_rope() {
    for run in ["base", "adapter", "adapter-patterns", "adapter-dora"] {
        compare("llama3", run);
    }
}

#[test]
fn llama_tied_with_biases() {
    for run in ["base", "adapter"] {
        compare("llama-tied", run);
    }
}

#[test]
fn mistral_with_a_short_window() {
    for run in ["base", "adapter"] {
        compare("mistral", run);
    }
}

#[test]
fn qwen2_with_biases_and_a_window_on_one_layer() {
    for run in ["base", "adapter"] {
        compare("qwen2", run);
    }
}

#[test]
fn qwen3_with_head_norms_from_bf16_shards() {
    for run in ["base", "adapter", "adapter-regex", "adapter-keys", "adapter-dora"] {
        compare("qwen3", run);
    }
}
