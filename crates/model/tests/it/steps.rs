//! The loss of every optimiser step against PEFT and torch's AdamW, in passes of rows and packed; and the
//! device path, on candle's CPU device, against the host's.

#[path = "../../examples/steps/case.rs"]
mod case;

use case::{Steps, largest};
use nightshift_model::device::Device;

use crate::fixture::folder;

/// Largest relative difference of a loss, of a gradient norm.
const LOSS: f64 = 1e-4;
const NORM: f64 = 1e-3;

#[test]
fn every_step_of_every_family_and_variant_has_pefts_loss() {
    let (fixtures, steps) = (folder(".."), steps());
    assert_eq!(steps.cases.len(), 13);
    for case in &steps.cases {
        for packed in [false, true] {
            let found = steps.compare(case, &fixtures, packed, None).unwrap();
            let label = format!("{} on {}, packed {packed}: {found:?}", case.name, case.family);
            assert!(found.steps >= 50 && found.learned < 0.9, "{label}");
            assert!(found.loss < LOSS && found.grad_norm < NORM && found.rate < 1e-8, "{label}");
        }
    }
}

#[test]
fn a_device_trains_the_hosts_adapter_in_every_family() {
    let (fixtures, steps) = (folder(".."), steps());
    for family in ["llama3", "mistral", "qwen2", "qwen3"] {
        let case = steps.cases.iter().find(|case| case.family == family).unwrap();
        for packed in [false, true] {
            let host = steps.train(case, &fixtures, packed, None).unwrap();
            let ours = steps.train(case, &fixtures, packed, Some(&Device::Cpu)).unwrap();
            let mut worst = 0.0;
            for (ours, host) in ours.0.iter().zip(&host.0) {
                worst = largest(worst, ours[0], host[0]);
            }
            assert!(worst < LOSS, "{} on {family}, packed {packed}: loss {worst}", case.name);
            for (ours, host) in ours.1.iter().iter().zip(host.1.iter()) {
                let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
                let difference = norm(&mut ours.values.iter().zip(host.values).map(|(a, b)| a - b));
                let size = norm(&mut host.values.iter().copied());
                assert!(
                    difference < 1e-4 * size,
                    "{family}: {} differs by {difference} of {size}",
                    ours.name
                );
            }
        }
    }
}

fn steps() -> Steps {
    let text = std::fs::read(folder("../steps/steps.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}
