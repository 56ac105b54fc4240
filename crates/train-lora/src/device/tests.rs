//! Whole runs with their passes on a device (candle's CPU one) against the host's, and what is refused.

use nightshift_core::{Ctx, files};
use nightshift_model::{Adapter, Example, device::Device};
use serde_json::json;

use super::*;
use crate::args::SettingFlags;
use crate::checkpoint::Checkpoints;
use crate::curves::Places;
use crate::data::Encoded;
use crate::settings::Settings;
use crate::train::{self, Job, Trained};

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model/qwen3")
}

/// Rows of different length, with prompts that are not learned.
fn rows(from: u32, to: u32) -> Vec<Encoded> {
    let row = |n: u32| {
        let tokens: Vec<u32> = (0..9 + n % 5).map(|at| 5 + (at * (n + 3) + n) % 90).collect();
        let scored = (0..tokens.len()).map(|at| at >= 3 + n as usize % 3).collect();
        Encoded::answer(format!("r{n}"), Example { tokens, scored })
    };
    (from..to).map(row).collect()
}

fn settings(max_steps: Option<usize>, pack: bool) -> Settings {
    let flags = SettingFlags {
        rank: Some(4),
        batch_size: Some(2),
        gradient_accumulation: Some(2),
        learning_rate: Some(1e-2),
        num_epochs: Some(2),
        checkpoint_steps: Some(2),
        threads: Some(1),
        packing: pack,
        pack_len: Some(25),
        max_steps,
        ..SettingFlags::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(&Ctx::for_test(dir.path()), &flags, true).unwrap();
    settings.train.loraplus_lr_ratio = 4.0;
    settings.train.gradient_checkpointing = pack;
    settings
}

/// Trains in `dir`, going on from what is there.
fn run(dir: &Path, base: &Base, settings: &Settings) -> Trained {
    let (ctx, examples, evaluation) = (Ctx::for_test(dir), rows(0, 10), rows(10, 13));
    let mut adapter = settings.adapter(&base.model.config).unwrap();
    adapter.prepare(&base.model, nightshift_model::Threads::ONE);
    let job = Job {
        ctx: &ctx,
        model: &base.model,
        device: base.device.as_ref(),
        examples: &examples,
        evaluation: &evaluation,
        order: settings.order(examples.len(), 0, 0),
        settings,
        checkpoints: Checkpoints {
            folder: dir.join("checkpoints"),
            identity: json!({"run": 1}),
            shape: &base.model.config,
            base_name: "base".into(),
            refuse_others: true,
            crash: ctx.crash.clone(),
        },
        places: Places::new(dir, None, "run"),
    };
    train::train(&job, adapter, &|_| ()).unwrap()
}

fn bases() -> [Base; 2] {
    let host = Base::load(&fixture(), Storage::default()).unwrap();
    let mut device = Base::load(&fixture(), Storage::default()).unwrap();
    device.device = Some(Arc::new(DeviceModel::new(&device.model, &Device::Cpu).unwrap()));
    [host, device]
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * b.abs()
}

fn assert_close(ours: &Adapter, host: &Adapter) {
    for (ours, host) in ours.iter().iter().zip(host.iter()) {
        let norm = |values: Vec<f32>| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let difference = norm(ours.values.iter().zip(host.values).map(|(a, b)| a - b).collect());
        let size = norm(host.values.to_vec());
        assert!(difference <= 1e-4 * size, "{} differs by {difference} of {size}", ours.name);
    }
}

#[test]
fn a_run_on_a_device_is_the_run_of_the_host() {
    let [host, device] = bases();
    for pack in [false, true] {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings(None, pack);
        let (ours, wanted) = (run(here.path(), &device, &settings), run(there.path(), &host, &settings));
        assert_eq!(
            (ours.steps.len(), ours.ended, ours.published_step),
            (6, wanted.ended, wanted.published_step)
        );
        for (ours, wanted) in ours.steps.iter().zip(&wanted.steps) {
            assert!(close(ours.loss, wanted.loss), "{ours:?} {wanted:?}");
            assert!((ours.grad_norm / wanted.grad_norm - 1.0).abs() < 1e-3, "{ours:?} {wanted:?}");
            assert_eq!(ours.peak_gflops, None, "what the processor reaches is nobody's peak here");
        }
        assert!(wanted.steps[5].loss < 0.9 * wanted.steps[0].loss, "nothing was learned");
        for (ours, wanted) in ours.evals.iter().zip(&wanted.evals) {
            assert!(close(ours.loss.unwrap(), wanted.loss.unwrap()), "{ours:?} {wanted:?}");
        }
        assert_close(&ours.adapter, &wanted.adapter);
    }
}

#[test]
fn a_run_goes_on_to_the_same_bytes_and_may_end_without_its_device() {
    let [host, device] = bases();
    let [whole, cut, moved] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let undisturbed = run(whole.path(), &device, &settings(None, false));
    for dir in [&cut, &moved] {
        assert_eq!(run(dir.path(), &device, &settings(Some(3), false)).steps.len(), 3);
    }
    let resumed = run(cut.path(), &device, &settings(None, false));
    assert_eq!((resumed.resumed_from_step, resumed.steps.len()), (Some(3), 6));
    assert_eq!(resumed.adapter, undisturbed.adapter);
    let finished = run(moved.path(), &host, &settings(None, false));
    assert_eq!(finished.resumed_from_step, Some(3));
    assert_close(&finished.adapter, &undisturbed.adapter);
    assert!(files::list(moved.path()).unwrap().len() > 1);
}

#[test]
fn what_is_not_computed_on_a_device_is_refused_by_the_name_of_the_setting() {
    let refusal = |change: fn(&mut Train)| {
        let mut train = Train { device: "cuda:1".into(), ..Train::default() };
        change(&mut train);
        let failure = check(&train, Place::Cuda(1)).unwrap_err();
        assert_eq!(failure.exit().code(), 2);
        failure.chain()
    };
    assert!(refusal(|train| train.dropout = 0.1).contains("train.dropout is 0.1"));
    assert!(refusal(|train| train.engine = Engine::Command).contains("train.engine"));
    check(&Train::default(), Place::Cuda(1)).unwrap();
    let failure = named("gpu").unwrap_err();
    assert!(failure.chain().contains("train.device is `gpu`: write cpu"), "{}", failure.chain());
    assert_eq!(named("cuda").is_ok(), cfg!(feature = "cuda"), "a build without the feature refuses");
    let train = Train { dropout: 0.1, ..Train::default() };
    assert_eq!(place(&train).unwrap(), Place::Host);
}
