//! Checkpoints: whole, half-written, foreign.

use super::*;
use nightshift_model::{LoraConfig, Loss, Parameter, Target};

fn shape() -> ModelConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model/qwen3");
    ModelConfig::from_dir(&folder).unwrap()
}

fn checkpoints<'a>(dir: &Path, shape: &'a ModelConfig, rank: usize) -> Checkpoints<'a> {
    Checkpoints {
        folder: dir.to_owned(),
        identity: json!({"rank": rank, "dataset_sha256": "0123456789abcdef"}),
        shape,
        base_name: "base".into(),
        refuse_others: false,
        crash: CrashPoint::default(),
    }
}

fn adapter(shape: &ModelConfig, seed: u64) -> Adapter {
    let config = LoraConfig {
        rank: 2,
        alpha: 4.0,
        targets: vec![Target::Q],
        rslora: false,
        dropout: 0.0,
        dora: false,
    };
    Adapter::init(config, shape, seed)
}

fn optimiser(adapter: &mut Adapter) -> AdamW {
    let mut optimiser = AdamW::default();
    let gradients: Vec<Vec<f32>> =
        adapter.iter().iter().map(|tensor| vec![1e-30; tensor.values.len()]).collect();
    let mut tensors = adapter.iter_mut();
    let mut list: Vec<Parameter<'_>> = tensors
        .iter_mut()
        .zip(&gradients)
        .map(|(tensor, gradient)| Parameter { values: &mut *tensor.values, gradient, rate: 1.0 })
        .collect();
    optimiser.step(&mut list, 1e-3).unwrap();
    optimiser
}

fn eval(step: usize, loss: f64) -> EvalMetric {
    EvalMetric::new(step, Loss { nll_sum: loss, tokens: 1, ..Loss::default() }, 0.0, 0.0)
}

fn state(step: usize, evals: &[EvalMetric]) -> State {
    State { step, seconds: 0.1 + 0.2, evals: evals.to_vec(), ..State::default() }
}

fn names(dir: &Path) -> Vec<String> {
    let list = files::list(dir).unwrap();
    list.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_newest_whole_one_comes_back_bit_for_bit() {
    let (dir, shape) = (tempfile::tempdir().unwrap(), shape());
    let checkpoints = checkpoints(dir.path(), &shape, 2);
    let mut trained = adapter(&shape, 3);
    let moments = optimiser(&mut trained);
    for step in [5, 10, 15] {
        checkpoints.save(state(step, &[]), &trained, &moments).unwrap();
    }
    assert_eq!(names(dir.path()), ["step-00000010", "step-00000015"]);
    let Loaded { state, adapter, moments: found } = checkpoints.newest().unwrap().checkpoint.unwrap();
    assert_eq!((state.step, state.seconds), (15, 0.1 + 0.2));
    for tensor in trained.iter() {
        assert_eq!(adapter[&tensor.name], tensor.values);
    }
    let names: Vec<String> = trained.iter().into_iter().map(|tensor| tensor.name).collect();
    for moment in moments.moments(&names) {
        assert_eq!(found[&moment.name], moment.values, "{}", moment.name);
    }
    // A checkpoint is a PEFT folder.
    assert!(Adapter::load(&dir.path().join("step-00000015"), &shape).is_ok());
}

#[test]
fn damaged_ones_are_passed_over_with_a_note() {
    let (dir, shape) = (tempfile::tempdir().unwrap(), shape());
    let checkpoints = checkpoints(dir.path(), &shape, 2);
    let mut trained = adapter(&shape, 3);
    let moments = optimiser(&mut trained);
    for step in [5, 10] {
        checkpoints.save(state(step, &[]), &trained, &moments).unwrap();
    }
    for name in [MOMENTS, ADAPTER_MODEL, STATE] {
        let path = dir.path().join("step-00000010").join(name);
        let whole = files::read(&path).unwrap();
        files::write_atomic(&path, &whole[..whole.len() / 2]).unwrap();
        let found = checkpoints.newest().unwrap();
        assert_eq!(found.checkpoint.unwrap().state.step, 5);
        assert!(
            found.notes[0].contains("step-00000010") && found.notes[0].contains(name),
            "{:?}",
            found.notes
        );
        files::write_atomic(&path, &whole).unwrap();
    }
    assert_eq!(checkpoints.newest().unwrap().checkpoint.unwrap().state.step, 10);
}

#[test]
fn one_of_another_run_says_what_differs() {
    let (dir, shape) = (tempfile::tempdir().unwrap(), shape());
    let mut trained = adapter(&shape, 3);
    let moments = optimiser(&mut trained);
    checkpoints(dir.path(), &shape, 8).save(state(5, &[]), &trained, &moments).unwrap();
    let mut mine = checkpoints(dir.path(), &shape, 2);
    let found = mine.newest().unwrap();
    assert!(found.checkpoint.is_none());
    assert!(found.notes[0].contains("rank is 8 there and 2 here"), "{:?}", found.notes);
    mine.refuse_others = true;
    let failure = mine.newest().unwrap_err();
    assert_eq!(failure.exit().code(), 4);
    assert!(failure.chain().contains("step 5 of another run: rank is 8 there"), "{}", failure.chain());
    assert!(failure.hints()[1].contains("--fresh"));
    mine.identity = json!({"rank": 8, "dataset_sha256": "ffffffffffffffff"});
    let text = mine.newest().unwrap_err().chain();
    assert!(text.contains("dataset_sha256 is 0123456789ab there and ffffffffffff here"), "{text}");
}

#[test]
fn the_best_state_stays_as_long_as_a_checkpoint_needs_it() {
    let (dir, shape) = (tempfile::tempdir().unwrap(), shape());
    let checkpoints = checkpoints(dir.path(), &shape, 2);
    let mut trained = adapter(&shape, 3);
    let moments = optimiser(&mut trained);
    let mut evals = vec![eval(0, 9.0)];
    let mut save = |step: usize, loss: f64| {
        evals.push(eval(step, loss));
        let mut state = state(step, &evals);
        if evals::best(&evals).unwrap().step == step {
            state.best_sha256 = Some(checkpoints.save_best(step, &trained).unwrap());
        } else {
            state.best_sha256 = Some(checkpoints.save_best(2, &trained).unwrap());
        }
        checkpoints.save(state, &trained, &moments).unwrap();
    };
    save(2, 3.0);
    save(4, 4.0);
    save(6, 5.0);
    assert_eq!(names(dir.path()), ["best-00000002", "step-00000004", "step-00000006"]);
    save(8, 2.0);
    assert_eq!(names(dir.path()), ["best-00000002", "best-00000008", "step-00000006", "step-00000008"]);
    // Without its best state a checkpoint is not whole.
    files::remove_dir(&dir.path().join("best-00000008")).unwrap();
    let found = checkpoints.newest().unwrap();
    assert_eq!(found.checkpoint.unwrap().state.step, 6);
    assert!(found.notes[0].contains("best state"), "{:?}", found.notes);
}
