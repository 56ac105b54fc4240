//! How much memory a training will take, said before anything large is loaded, and refused when the machine
//! has less. Pure but for the question how much is free.

use std::path::Path;

use nightshift_core::{Failure, process};
use nightshift_model::{Adapter, Footprint, ModelConfig, Place, Span, Threads, base_bytes};
use serde::Serialize;

use crate::base;
use crate::data::{Encoded, Verdict};
use crate::measure::evaluation_passes;
use crate::order::Order;
use crate::settings::Settings;
use crate::train::threads;

/// The program itself, its libraries' tables and threads: measured on a model of no size.
const PROGRAM: u64 = 18_000_000;
/// What the heap loses to buffers that grew, as a share of the activations: measured on the model and rows of
/// `scripts/bench-train` in f32, bf16, NF4 and with checkpointing (0.16 to 0.20).
const HOLES: f64 = 0.17;
/// Packed panels that the matrix products hold, for each thread.
const PRODUCTS: u64 = 3_000_000;
/// Bytes that an example's token takes: id, flag, and its share of the text.
const TOKEN: u64 = 13;

/// Bytes of the numbers of a base that is held as f32.
const DENSE: (f64, f64) = (4.0, 4.0);

/// What decides the memory of a training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    /// The base.
    pub(crate) config: &'a ModelConfig,
    /// Bytes of one number of its layers' matrices (4 for f32, 2 for bf16, 0.516 for NF4), and of one of
    /// embedding and head.
    pub(crate) held: (f64, f64),
    /// The adapter, or one of its form.
    pub(crate) adapter: &'a Adapter,
    /// Keep only the input of each layer.
    pub(crate) checkpointing: bool,
    /// Passes are computed on a device, and so their memory is not the host's.
    pub(crate) on_device: bool,
    /// Threads of the arithmetic.
    pub(crate) threads: usize,
    /// Rows that are trained on, in the order of [`Order`].
    pub(crate) examples: &'a [Encoded],
    /// Rows that are evaluated on.
    pub(crate) evaluation: &'a [Encoded],
}

/// Bytes by what takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Estimate {
    /// The base's weights.
    pub(crate) base_bytes: u64,
    /// Adapter, gradients and moments.
    pub(crate) adapter_bytes: u64,
    /// Activations and scratch of the largest passes.
    pub(crate) activations_bytes: u64,
    /// The program, its data, what matrix products pack, and holes in the heap.
    pub(crate) program_bytes: u64,
    /// All of it.
    pub(crate) total_bytes: u64,
}

/// The memory of a run over all of its epochs.
pub(crate) fn estimate(shape: &Shape<'_>, order: &Order, max_steps: usize) -> Estimate {
    let mut footprint =
        Footprint::new(shape.config, shape.adapter, Threads::new(shape.threads), shape.held != DENSE);
    footprint.set_checkpointing(shape.checkpointing);
    let spans: Vec<Vec<Span>> = shape.examples.iter().map(spans_of).collect();
    let windows = (0..order.epochs).flat_map(|epoch| {
        let rows = order.epoch(epoch);
        rows.chunks(order.window).map(<[usize]>::to_vec).collect::<Vec<_>>()
    });
    footprint.set_limits(order.limits());
    for window in windows.take(max_steps) {
        footprint.train(&window.into_iter().map(|row| spans[row].clone()).collect::<Vec<_>>());
    }
    // The reference of judged answers is an evaluation of all of them.
    let judged = shape.examples.iter().any(|row| row.verdict != Verdict::Imitate);
    let reference = if judged { evaluation_passes(shape.examples) } else { Vec::new() };
    for pass in evaluation_passes(shape.evaluation).into_iter().chain(reference) {
        let sequences = pass.iter().flat_map(spans_of).map(|span| vec![span]);
        footprint.evaluate(&sequences.collect::<Vec<_>>());
    }
    let tokens: usize = shape.examples.iter().chain(shape.evaluation).map(Encoded::tokens).sum();
    // A checkpoint is put together in memory: the adapter's file, and its largest tensor once more.
    let file = footprint.parameters() as u64 * 4;
    let mut estimate = Estimate {
        base_bytes: base_bytes(shape.config, shape.held.0, shape.held.1),
        adapter_bytes: footprint.adapter_bytes() + file,
        activations_bytes: if shape.on_device { 0 } else { footprint.workspace_bytes() },
        program_bytes: PROGRAM + PRODUCTS * shape.threads as u64 + TOKEN * tokens as u64,
        total_bytes: 0,
    };
    estimate.program_bytes += (HOLES * estimate.activations_bytes as f64) as u64;
    let Estimate { base_bytes, adapter_bytes, activations_bytes, program_bytes, .. } = estimate;
    estimate.total_bytes = base_bytes + adapter_bytes + activations_bytes + program_bytes;
    estimate
}

fn spans_of(row: &Encoded) -> Vec<Span> {
    row.examples().map(|example| Span::of(&example.scored)).collect()
}

impl Estimate {
    /// One sentence for a person.
    pub(crate) fn sentence(&self) -> String {
        let Self { base_bytes, adapter_bytes, activations_bytes, program_bytes, total_bytes } = self;
        format!(
            "about {} of memory: base {}, adapter with optimiser {}, activations {}, program and data {}",
            said(*total_bytes),
            said(*base_bytes),
            said(*adapter_bytes),
            said(*activations_bytes),
            said(*program_bytes)
        )
    }
}

/// Refuses (exit 4) a base that alone is more than the limit, before it is read.
pub(crate) fn check_base(dir: &Path, settings: &Settings) -> Result<(), Failure> {
    let (matrix, table) = base::bytes_per_number(dir, settings.storage());
    let needed = base_bytes(&base::shape(dir)?, matrix, table);
    match limit(settings) {
        Some((limit, whose)) if needed > limit => {
            let message = format!("the base alone takes {}, but {whose} {}", said(needed), said(limit));
            Err(Failure::refused(message)
                .hint("hold it smaller (--quantize nf4 or --dtype bf16), or give it more memory"))
        }
        _ => Ok(()),
    }
}

/// The bytes that may be taken, and who says so; `None` where nobody does.
fn limit(settings: &Settings) -> Option<(u64, &'static str)> {
    match settings.control.max_memory {
        Some(limit) => Some((limit, "train.max_memory allows")),
        // What this process holds already is part of what the training needs.
        None => process::available_memory_bytes()
            .map(|free| (free + process::rss_bytes(), "this machine has free")),
    }
}

/// Refuses (exit 4) a run that needs more than the limit, with the settings that would fit.
pub(crate) fn check(shape: &Shape<'_>, settings: &Settings, order: &Order) -> Result<Estimate, Failure> {
    let steps = settings.max_steps.unwrap_or(usize::MAX);
    let needed = estimate(shape, order, steps);
    let Some((limit, whose)) = limit(settings).filter(|(limit, _)| needed.total_bytes > *limit) else {
        return Ok(needed);
    };
    let message = format!("the training needs {}, but {whose} {}", needed.sentence(), said(limit));
    let failure = Failure::refused(message);
    Err(match fitting(shape, order, steps, limit) {
        Ok(Fitting { flags, estimate, same_numbers }) => {
            let numbers = if same_numbers { ", with the same numbers" } else { "" };
            failure.hint(format!("{flags} needs about {}{numbers}", said(estimate.total_bytes)))
        }
        Err(least) => failure
            .hint(format!("even one row at a time needs about {}", said(least.total_bytes)))
            .hint("take a smaller base, shorter rows (--max-length), a lower --rank, or more memory"),
    })
}

/// Settings that fit.
struct Fitting {
    flags: String,
    estimate: Estimate,
    /// A step computes the same as before.
    same_numbers: bool,
}

/// The largest batch that fits with the same rows in a window; else a base held in fewer bytes; else the
/// longest rows that fit; else what even the smallest batch needs.
fn fitting(shape: &Shape<'_>, order: &Order, steps: usize, limit: u64) -> Result<Fitting, Estimate> {
    let mut least = estimate(shape, order, steps);
    let smaller = (1..=order.batch).rev().filter(|batch| order.window.is_multiple_of(*batch));
    for batch in smaller.filter(|batch| *batch < order.batch || order.pack.is_some()) {
        least = estimate(shape, &Order { batch, pack: None, ..order.clone() }, steps);
        if least.total_bytes <= limit {
            let accumulation = order.window / batch;
            let packing = if order.pack.is_some() { " without --packing" } else { "" };
            let flags = format!("--batch-size {batch} --gradient-accumulation {accumulation}{packing}");
            return Ok(Fitting { flags, estimate: least, same_numbers: true });
        }
    }
    if !shape.checkpointing {
        let shape = Shape { checkpointing: true, ..*shape };
        let smallest = estimate(&shape, &Order { batch: 1, pack: None, ..order.clone() }, steps);
        if smallest.total_bytes <= limit {
            let accumulation = order.window;
            let flags =
                format!("--batch-size 1 --gradient-accumulation {accumulation} --gradient-checkpointing");
            return Ok(Fitting { flags, estimate: smallest, same_numbers: true });
        }
    }
    if let Some(fitting) = held_smaller(shape, order, steps, limit) {
        return Ok(fitting);
    }
    let longest = |rows: &[Encoded]| rows.iter().map(Encoded::tokens).max().unwrap_or(0);
    let mut length = longest(shape.examples).max(longest(shape.evaluation)).next_power_of_two() / 2;
    while length >= 64 {
        let fits = |rows: &[Encoded]| -> Vec<Encoded> {
            rows.iter().filter(|row| row.tokens() <= length).cloned().collect()
        };
        let (examples, evaluation) = (fits(shape.examples), fits(shape.evaluation));
        if examples.is_empty() {
            break;
        }
        let rows = examples.len();
        let order = Order { batch: 1, pack: None, rows, pool: 0, drawn: 0, ..order.clone() };
        let shorter = Shape { examples: &examples, evaluation: &evaluation, ..*shape };
        let estimate = estimate(&shorter, &order, steps);
        if estimate.total_bytes <= limit {
            let flags = format!(
                "--batch-size 1 --gradient-accumulation {} --max-length {length} (which leaves out {} of {} rows)",
                order.window,
                shape.examples.len() - examples.len(),
                shape.examples.len()
            );
            return Ok(Fitting { flags, estimate, same_numbers: false });
        }
        length /= 2;
    }
    Err(least)
}

/// The base held in as many bytes as fit, with all rows of a pass or one.
fn held_smaller(shape: &Shape<'_>, order: &Order, steps: usize, limit: u64) -> Option<Fitting> {
    let forms = [
        ("--dtype bf16", (2.0, 2.0)),
        ("--quantize nf4", (base::NF4_BYTES, 4.0)),
        ("--quantize nf4 --dtype bf16", (base::NF4_BYTES, 2.0)),
    ];
    let one = Order { batch: 1, pack: None, ..order.clone() };
    let smaller = forms.into_iter().filter(|(_, held)| held.0 < shape.held.0 || held.1 < shape.held.1);
    smaller.flat_map(|form| [(form, order), (form, &one)]).find_map(|((flag, held), batches)| {
        let estimate = estimate(&Shape { held, ..*shape }, batches, steps);
        let cut = format!("{flag} --batch-size 1 --gradient-accumulation {}", order.window);
        let flags = if batches == order { flag.to_owned() } else { cut };
        (estimate.total_bytes <= limit).then_some(Fitting { flags, estimate, same_numbers: false })
    })
}

/// The shape of a training on the base in `dir`.
pub(crate) fn shape<'a>(
    (dir, config): (&Path, &'a ModelConfig),
    adapter: &'a Adapter,
    settings: &Settings,
    [examples, evaluation]: [&'a [Encoded]; 2],
) -> Shape<'a> {
    let held = base::bytes_per_number(dir, settings.storage());
    let checkpointing = settings.train.gradient_checkpointing;
    let (on_device, threads) = (settings.place != Place::Host, threads(settings.train.threads));
    Shape { config, held, adapter, checkpointing, on_device, threads, examples, evaluation }
}

/// An amount of memory in words.
fn said(bytes: u64) -> String {
    if bytes >= 10_000_000_000 {
        format!("{:.1} GB", bytes as f64 / 1e9)
    } else if bytes >= 1_000_000_000 {
        format!("{:.2} GB", bytes as f64 / 1e9)
    } else {
        format!("{} MB", bytes.div_ceil(1_000_000))
    }
}
