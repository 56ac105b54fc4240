//! The curves of a run as they are drawn: `metrics.jsonl` and TensorBoard events, a line and a record for
//! each step, handed to the operating system at once, so that a killed run has them.
//!
//! When a run begins or goes on, both files are written anew from the run's own account and then appended
//! to: a resumed run has no line twice. A disk that is full costs lines, never the run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nightshift_core::{Failure, OrFail, files};
use serde_json::{Value, json};

use crate::evals::EvalMetric;
use crate::report::StepMetric;
use crate::tensorboard;

/// Where the curves of a run go.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `metrics.jsonl`.
    pub(crate) metrics: PathBuf,
    /// The TensorBoard event file.
    pub(crate) events: Option<PathBuf>,
}

impl Places {
    /// `metrics.jsonl` in `folder`; events of the run `name` below `tensorboard`.
    pub(crate) fn new(folder: &Path, tensorboard: Option<&Path>, name: &str) -> Self {
        // TensorBoard takes a folder for a run and sorts files by what follows the prefix.
        let events = tensorboard.map(|dir| dir.join(name).join("events.out.tfevents.0000000000.train-lora"));
        Self { metrics: folder.join(crate::publish::METRICS), events }
    }
}

/// The open files.
#[derive(Debug)]
pub(crate) struct Curves {
    metrics: Option<File>,
    events: Option<File>,
    tokens: usize,
}

impl Curves {
    /// Writes what was done so far and keeps the files open.
    pub(crate) fn open(places: &Places, steps: &[StepMetric], evals: &[EvalMetric]) -> Result<Self, Failure> {
        let (text, tokens) = lines(steps, evals);
        let folder = |path: &Path| path.parent().map_or(Ok(()), files::create_dir);
        folder(&places.metrics)?;
        files::write_atomic(&places.metrics, text.as_bytes())?;
        let events = match &places.events {
            None => None,
            Some(path) => {
                folder(path)?;
                files::write_atomic(path, &records(steps, evals))?;
                Some(files::open_append(path)?)
            }
        };
        Ok(Self { metrics: Some(files::open_append(&places.metrics)?), events, tokens })
    }

    /// Appends a step (none for the start), with the evaluation that followed it. What cannot be written is
    /// given up, and said once.
    pub(crate) fn push(&mut self, step: Option<&StepMetric>, eval: Option<&EvalMetric>) -> Option<String> {
        self.tokens += step.map_or(0, |step| step.tokens);
        let mut line = line(step, eval, self.tokens).to_string();
        line.push('\n');
        let record = record(step, eval, self.tokens);
        let said = append(&mut self.metrics, line.as_bytes(), "metrics.jsonl");
        said.or(append(&mut self.events, &record, "the TensorBoard events"))
    }
}

/// Appends in one write; a file that cannot be written is closed.
fn append(file: &mut Option<File>, bytes: &[u8], name: &str) -> Option<String> {
    let error = file.as_mut()?.write_all(bytes).err()?;
    *file = None;
    Some(format!("{name} is not written any more: {error}; it is completed when the run ends"))
}

/// The whole of `metrics.jsonl`, and the tokens of all steps.
pub(crate) fn lines(steps: &[StepMetric], evals: &[EvalMetric]) -> (String, usize) {
    let (mut text, mut tokens) = (String::new(), 0);
    for (step, eval) in rows(steps, evals) {
        tokens += step.map_or(0, |step| step.tokens);
        text.push_str(&line(step, eval, tokens).to_string());
        text.push('\n');
    }
    (text, tokens)
}

/// Writes the event file of a run that ended, whole.
pub(crate) fn complete_events(
    places: &Places,
    steps: &[StepMetric],
    evals: &[EvalMetric],
) -> Result<(), Failure> {
    let Some(path) = &places.events else { return Ok(()) };
    files::write_atomic(path, &records(steps, evals)).or_fail(|| "the TensorBoard events".into())
}

fn records(steps: &[StepMetric], evals: &[EvalMetric]) -> Vec<u8> {
    let first = steps.first().map(|step| step.at_s).or(evals.first().map(|eval| eval.at_s));
    let mut bytes = tensorboard::header(first.unwrap_or_default());
    let mut tokens = 0;
    for (step, eval) in rows(steps, evals) {
        tokens += step.map_or(0, |step| step.tokens);
        bytes.extend(record(step, eval, tokens));
    }
    bytes
}

/// The start, if it was evaluated, then each step with the evaluation that followed it.
fn rows<'a>(
    steps: &'a [StepMetric],
    evals: &'a [EvalMetric],
) -> impl Iterator<Item = (Option<&'a StepMetric>, Option<&'a EvalMetric>)> {
    let after = |step: usize| evals.iter().find(move |eval| eval.step == step);
    let start = after(0).map(|eval| (None, Some(eval)));
    start.into_iter().chain(steps.iter().map(move |step| (Some(step), after(step.step))))
}

fn line(step: Option<&StepMetric>, eval: Option<&EvalMetric>, tokens_total: usize) -> Value {
    let mut line = match step {
        None => json!({"step": 0}),
        Some(step) => json!({
            "step": step.step,
            "epoch": step.epoch,
            "loss": step.loss,
            "lr": step.lr,
            "grad_norm": step.grad_norm,
            "tokens": step.tokens,
            "tokens_total": tokens_total,
            "answer_tokens": step.answer_tokens,
            "tokens_per_s": step.tokens_per_s(),
            "mean_token_accuracy": step.mean_token_accuracy,
            "seconds": step.seconds,
            "rss_bytes": step.rss_bytes,
        }),
    };
    if let Some(eval) = eval {
        line["eval_loss"] = json!(eval.loss);
    }
    line
}

fn record(step: Option<&StepMetric>, eval: Option<&EvalMetric>, tokens_total: usize) -> Vec<u8> {
    let mut values = Vec::with_capacity(8);
    if let Some(step) = step {
        values.extend([
            ("train/loss", step.loss),
            ("train/learning_rate", step.lr),
            ("train/grad_norm", step.grad_norm),
            ("train/epoch", step.epoch as f64),
            ("train/mean_token_accuracy", step.mean_token_accuracy),
            ("train/num_tokens", tokens_total as f64),
            ("train/tokens_per_s", step.tokens_per_s()),
        ]);
    }
    if let Some(loss) = eval.and_then(|eval| eval.loss) {
        values.push(("eval/loss", loss));
    }
    // An external trainer may not have told everything.
    values.retain(|(_, value)| value.is_finite());
    let number = step.map_or(0, |step| step.step);
    let at = step.map(|step| step.at_s).or(eval.map(|eval| eval.at_s)).unwrap_or_default();
    tensorboard::scalars(at, number, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_model::Loss;

    fn step(step: usize) -> StepMetric {
        StepMetric { step, loss: 1.0 / step as f64, tokens: 10, seconds: 0.5, ..StepMetric::default() }
    }

    fn eval(step: usize, nll_sum: f64) -> EvalMetric {
        EvalMetric::new(step, Loss { nll_sum, tokens: 2, ..Loss::default() }, 0.0, 0.0)
    }

    #[test]
    fn a_file_drawn_in_two_goes_equals_one_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path(), Some(&dir.path().join("tb")), "run");
        let (steps, evals) = ([step(1), step(2), step(3)], [eval(0, 3.0), eval(2, f64::NAN)]);
        let mut curves = Curves::open(&places, &[], &[]).unwrap();
        assert!(curves.push(None, Some(&evals[0])).is_none());
        // A step that a kill undoes.
        curves.push(Some(&step(1)), None);
        curves.push(Some(&step(2)), None);
        let mut curves = Curves::open(&places, &steps[..1], &evals[..1]).unwrap();
        curves.push(Some(&steps[1]), Some(&evals[1]));
        curves.push(Some(&steps[2]), None);
        let text = files::read_text(&places.metrics).unwrap();
        assert_eq!(text, lines(&steps, &evals).0);
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((&rows[0]["eval_loss"], &rows[2]["eval_loss"]), (&json!(1.5), &Value::Null));
        assert_eq!((&rows[3]["tokens_total"], rows[3].get("eval_loss")), (&json!(30), None));
        let events = places.events.clone().unwrap();
        assert_eq!(files::read(&events).unwrap(), records(&steps, &evals));
        complete_events(&places, &steps, &evals).unwrap();
        assert_eq!(files::read(&events).unwrap(), records(&steps, &evals));
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_said_once() {
        let full = files::open_append(Path::new("/dev/full")).unwrap();
        let mut curves = Curves { metrics: Some(full), events: None, tokens: 0 };
        assert!(curves.push(Some(&step(1)), None).unwrap().contains("metrics.jsonl is not written any more"));
        assert!(curves.push(Some(&step(2)), None).is_none());
    }
}
