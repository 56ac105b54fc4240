//! The demo's words: what it is about to do, what came out, and what that does not show.

use std::fmt::Write;
use std::path::Path;

use crate::chart::{Chart, Line};
use crate::nights::Success;
use crate::report::{Night, Report};
use crate::settings::settings;
use crate::skills::Skill;
use crate::world::{Size, World};

/// Said before anything runs.
pub fn introduction(seed: u64, size: Size, nights: usize, world: &World) -> String {
    let hidden = world.facts.iter().filter(|fact| fact.hidden).count();
    let skills = Skill::ALL.iter().filter(|skill| skill.hidden()).count();
    format!(
        "Nightshift demo, seed {seed}: {nights} night(s) in an invented world\n\
         \n\
         {} countries, {} facts. The student is trained from scratch here and never sees {hidden} of the facts and\n\
         {skills} of {} skills. A council of three fine-tuned copies knows the whole world, each with gaps and misprints of\n\
         its own. {} requests a day; thumbs down on 30 % of the wrong answers. Harvest, training and deployment see no key.\n\
         The gate has {} questions; the report set has {} that the loop never sees, in phrasings that traffic never has.\n",
        world.countries.len(),
        world.facts.len(),
        Skill::ALL.len(),
        size.day,
        size.gate,
        size.report
    )
}

/// Every setting that differs from the product's default, with the reason.
pub fn settings_table(size: Size) -> String {
    let watch_s = crate::stage::watch_s(size);
    let mut text = "Settings that differ from the defaults:\n".to_owned();
    for setting in settings(watch_s) {
        let value = if setting.key == "train.targets" { "all seven matrices" } else { &setting.value };
        let _ = writeln!(
            text,
            "  {:<36} {value:<18} (default {}): {}",
            setting.key, setting.default, setting.reason
        );
    }
    text.push_str(
        "  memory calibrate is not run: the smallest token probability is the confidence throughout\n",
    );
    text
}

/// The picture of a run.
pub fn chart(report: &Report, success: &[Success]) -> Chart {
    let line = |label: &str, colour, part: fn(&Success) -> f64, main| Line {
        label: label.into(),
        colour,
        points: success.iter().map(part).collect(),
        main,
    };
    let note = |night: &Night| match &night.gate {
        Some(gate) => format!("gate {}, {} rows", gate.verdict, night.accepted),
        None => format!("no gate, {} rows", night.accepted),
    };
    Chart {
        title: "A model that gets better every night".into(),
        subtitle: format!(
            "Success on questions that the loop never sees, measured by `scripts/demo` on this machine, seed {}",
            report.seed
        ),
        lines: vec![
            line("was taught", "#7b8794", |success| success.known, false),
            line("was never taught", "#c2410c", |success| success.hidden, false),
            line("all questions", "#0b69a3", |success| success.all, true),
        ],
        notes: report.nights.iter().map(note).collect(),
    }
}

/// Said at the end.
pub fn result(report: &Report, success: &[Success], dir: &Path) -> String {
    let mut text = table(report, success);
    let _ = write!(
        text,
        "\nReport set: {:.1} % -> {:.1} % ({:+.1} points). Confidence against truth, first day: AUC {}.\n",
        100.0 * report.heldout_before,
        100.0 * report.heldout_after,
        100.0 * (report.heldout_after - report.heldout_before),
        report.confidence_auc.map_or("unknown".into(), |auc| format!("{auc:.3}"))
    );
    text.push_str(&incidents(report));
    text.push_str(
        "\nWhat this does not show\n\
         - Facts are remembered, not inferred: what nobody asked about is still unknown, whatever the number of nights.\n\
         - The world is synthetic, the model tiny and the council its own kin; on real traffic expect other numbers.\n\
         - Thumbs come from the key, as a user's do; everything else in the loop works without it.\n\
         - The gate's questions come from the same world as the report's: a gate that lacks a request type is blind to\n  \
           it (incident 3), and only the watch stands behind it.\n\
         - An attacker with two of three members and one plausible wrong answer each for a few facts would get through.\n",
    );
    let _ = write!(
        text,
        "\n{:.0} s, {:.0} MB at most. Everything is in {}\n  serve it:  serve --home {}\n  picture:   {}\n",
        report.seconds,
        report.peak_rss_mb,
        dir.display(),
        dir.join("home").display(),
        dir.join("demo.svg").display()
    );
    text
}

fn table(report: &Report, success: &[Success]) -> String {
    let mut text = String::from(
        "night  requests  wrong  asked  accepted  right  steps  loss          gate                     live  report  taught  untaught  lost\n",
    );
    if let Some(start) = success.first() {
        let _ = writeln!(
            text,
            "start  {:>94}{:>8}{:>8}{:>10}",
            "",
            percent(start.all),
            percent(start.known),
            percent(start.hidden)
        );
    }
    for (night, success) in report.nights.iter().zip(success.iter().skip(1)) {
        let (steps, loss) = night.trained.as_ref().map_or(("-".into(), "-".into()), |trained| {
            (trained.steps.to_string(), format!("{:.2} -> {:.2}", trained.loss_first, trained.loss_last))
        });
        let gate = night.gate.as_ref().map_or("-".into(), |gate| {
            format!("{} +{} -{} p {:.0e}", gate.verdict, gate.won, gate.lost, gate.p_value)
        });
        let _ = writeln!(
            text,
            "{:<5}  {:>8}  {:>5}  {:>5}  {:>8}  {:>5}  {steps:>5}  {loss:<12}  {gate:<24} {:<5}{:>7}{:>8}{:>10}{:>6.1}",
            night.night,
            night.requests,
            night.failures,
            night.harvested,
            night.accepted,
            night.accepted_precision.map_or("-".into(), |share| format!("{share:.3}")),
            if night.deployed { "yes" } else { "no" },
            percent(success.all),
            percent(success.known),
            percent(success.hidden),
            night.lost_points
        );
    }
    text.push_str(
        "(wrong and right by the key that the loop does not have; lost in points of the report set)\n",
    );
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn incidents(report: &Report) -> String {
    let mut text = "\nIncidents\n".to_owned();
    if let Some(killed) = &report.killed_night {
        let _ = writeln!(
            text,
            "- killed {} times ({}): {}, {} council calls repeated, {}, {} invariants violated",
            killed.moments.len(),
            killed.killed_after,
            if killed.resumed { "resumed to its end" } else { "NOT resumed" },
            killed.repeated_council_calls,
            match killed.same_adapter {
                Some(true) => "the undisturbed night's adapter byte for byte",
                Some(false) => "ANOTHER adapter than the undisturbed night's",
                None => "no adapter to compare",
            },
            killed.violations.len()
        );
        for violation in &killed.violations {
            let _ = writeln!(text, "    {violation}");
        }
    }
    for variant in &report.poisoned.variants {
        let live = if variant.deployed { "WENT LIVE" } else { "not deployed" };
        let _ = writeln!(text, "- {}: stopped by {}, {live}", variant.name, variant.stopped_by);
    }
    if let Some(live) = &report.live_regression {
        let _ = writeln!(
            text,
            "- regression on live JSON requests: {}, {}, {:.2} s after the observation that rang the alarm",
            if live.rolled_back { "taken back by itself" } else { "NOT taken back" },
            if live.restored { "the old state answers again" } else { "the old state does NOT answer" },
            live.seconds
        );
    }
    if let Some(switch) = &report.switch {
        let _ = writeln!(
            text,
            "- {} requests while adapters were switched: {} failed, {} mixed",
            switch.requests, switch.failed, switch.mixed
        );
    }
    text
}
