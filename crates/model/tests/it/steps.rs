//! The loss of every optimiser step against PEFT and torch's AdamW, in passes of rows and packed.

#[path = "../../examples/steps/case.rs"]
mod case;

use case::Steps;

use crate::fixture::folder;

/// Largest relative difference of a loss, of a gradient norm.
const LOSS: f64 = 1e-4;
const NORM: f64 = 1e-3;

#[test]
fn every_step_of_every_family_and_variant_has_pefts_loss() {
    let fixtures = folder("..");
    let text = std::fs::read(fixtures.join("steps/steps.json")).unwrap();
    let steps: Steps = serde_json::from_slice(&text).unwrap();
    assert_eq!(steps.cases.len(), 13);
    for case in &steps.cases {
        for packed in [false, true] {
            let found = steps.compare(case, &fixtures, packed).unwrap();
            let label = format!("{} on {}, packed {packed}: {found:?}", case.name, case.family);
            assert!(found.steps >= 50 && found.learned < 0.9, "{label}");
            assert!(found.loss < LOSS && found.grad_norm < NORM && found.rate < 1e-8, "{label}");
        }
    }
}
