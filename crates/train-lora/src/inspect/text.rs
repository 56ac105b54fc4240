//! What `inspect` prints for a person.

use std::fmt::Write;

use crate::base;
use crate::inspect::norms::{Layer, Module};
use crate::inspect::{Report, TrainedOn};
use crate::servers::Verdict;

/// The whole report as text.
pub(super) fn describe(report: &Report) -> String {
    let mut text = format!("{}: {}\n", report.path, if report.valid { "valid" } else { "NOT valid" });
    for problem in &report.problems {
        let _ = writeln!(text, "  problem: {problem}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    if let (Some(rank), Some(alpha)) = (report.rank, report.alpha) {
        let parameters = report.parameters.unwrap_or_default();
        let _ = writeln!(
            text,
            "  rank {rank}, alpha {alpha}, on {}, {parameters} parameters",
            report.targets.join(" ")
        );
    }
    if let Some(digest) = &report.digest {
        let _ = writeln!(text, "  digest {digest}");
    }
    if let Some(manifest) = &report.manifest {
        let base = base::short(&manifest.base_fingerprint);
        let _ =
            writeln!(text, "  release {}, made {}, base {base}", manifest.adapter_id, manifest.created_at);
    }
    if let Some(size) = report.size_mb {
        let _ = writeln!(text, "  size {size:.1} MB");
    }
    describe_rows(&mut text, report);
    describe_norms(&mut text, report);
    if !report.servers.is_empty() {
        let _ = writeln!(text, "  servers:");
    }
    for Verdict { server, takes, how } in &report.servers {
        let _ = writeln!(text, "    {server:<16} {} {how}", if *takes { "yes:" } else { "NO: " });
    }
    text
}

fn describe_rows(text: &mut String, report: &Report) {
    let Some(TrainedOn { examples, nights, dataset_sha256, parents, .. }) = &report.trained_on else {
        return;
    };
    let count = |key: &str| examples[key].as_u64().unwrap_or(0);
    let digest = dataset_sha256.as_deref().map_or("unknown", base::short);
    let _ = write!(text, "  trained on {} new and {} older rows", count("new"), count("older"));
    let _ = writeln!(text, ", {} replayed in each epoch; data {digest}", count("replay"));
    let nights = nights.as_object().into_iter().flatten();
    let list: Vec<String> = nights.map(|(night, rows)| format!("{night} ({rows})")).collect();
    if !list.is_empty() {
        let _ = writeln!(text, "  nights: {}", list.join(", "));
    }
    if !parents.is_empty() {
        let _ = writeln!(text, "  continued from {}", parents.join(", "));
    }
}

fn describe_norms(text: &mut String, report: &Report) {
    if report.modules.is_empty() {
        return;
    }
    let share =
        |relative: Option<f64>| relative.map_or("-".to_owned(), |share| format!("{:.3} %", 100.0 * share));
    let _ = writeln!(
        text,
        "  {:<40} {:>5} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "module", "rank", "scale", "|A|", "|B|", "|update|", "of |W|"
    );
    for Module { name, rank, scale, norm_a, norm_b, norm_update, relative, .. } in &report.modules {
        let _ = writeln!(
            text,
            "  {name:<40} {rank:>5} {scale:>8.3} {norm_a:>10.4} {norm_b:>10.4} {norm_update:>10.4} {:>10}",
            share(*relative)
        );
    }
    for Layer { layer, modules, norm_update, relative } in &report.layers {
        let name = format!("layer {layer} ({modules} modules)");
        let _ = writeln!(text, "  {name:<77} {norm_update:>10.4} {:>10}", share(*relative));
    }
}
