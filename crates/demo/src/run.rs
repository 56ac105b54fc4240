//! The demo from beginning to end.

use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::{Ctx, Failure, OrFail, Outcome, Tool, files};
use serde_json::json;

use crate::home::Home;
use crate::models::{self, Plan};
use crate::nights::{self, Story};
use crate::questions::Sets;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::{Size, World};
use crate::{killed, poison, regression, switching, telling};

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "nightshift-demo",
    about: "Watch a small model get better for three nights, and five attacks on it fail",
    details: "
Makes an invented world, trains a model of 0.9 million weights from scratch on part of it and a council of three on
all of it (kept in the cache for later runs), and then drives the real programs: traffic over HTTP, nightly under a
pinned clock, a sealed examination after each night. Then come the incidents: poisoned nights, an adapter that
misbehaves live, a killed night, adapter switches under load.

Writes below --dir only (and the models into --cache-dir): home/ is an ordinary Nightshift home, incidents/ are copies
of it, demo.svg and demo.png the picture, demo.json the result.

Examples:
  nightly demo                        three nights with seed 1
  nightly demo --seed 7 --json        another world; one JSON object at the end
  nightly demo --quick                a small world and one night

Exit codes: 0 it ran to its end (read the result), 1 failed, 2 usage, 4 --dir is not empty.",
};

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Nights, 1 to 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub nights: Option<u8>,
    /// Folder of the demo's home and results [default: a new temporary one, which is kept]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where trained models are kept for later runs [default: $XDG_CACHE_HOME/nightshift-demo, else
    /// ~/.cache/nightshift-demo]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// A smaller world, one night unless --nights says otherwise: what the tests run
    #[arg(long)]
    pub quick: bool,
}

/// Runs the demo.
pub fn run(ctx: &Ctx, args: DemoArgs) -> Result<Outcome, Failure> {
    let started = ctx.clock.elapsed();
    let seed = ctx.seed.unwrap_or(1);
    let size = if args.quick { Size::QUICK } else { Size::FULL };
    let nights = args.nights.map_or(if args.quick { 1 } else { 3 }, usize::from);
    let world = World::new(seed, size);
    let sets = Sets::new(seed, &world, size);
    let introduction = telling::introduction(seed, size, nights, &world);
    if ctx.dry_run {
        let plan = json!({"seed": seed, "nights": nights, "quick": args.quick});
        return Ok(Outcome::done(&json!({"plan": plan}), introduction).status("planned"));
    }
    let dir = folder(args.dir.as_deref())?;
    let note = |text: &str| ctx.printer.note(text);
    note(&introduction);
    note(&telling::settings_table(size));
    let cache = match args.cache_dir {
        Some(dir) => dir,
        None => models::default_cache(ctx)?,
    };
    note(&format!("\nModels (cache: {})", cache.display()));
    let models = models::prepare(ctx, seed, (&world, &sets, size), (Plan::of(size), &cache))?;
    let how = if models.cached { "found in the cache" } else { "trained" };
    note(&format!("  student and council {how} in {:.0} s", models.seconds));
    let stage = Stage::set_up(ctx, (seed, size), (world, sets), (&models, &dir))?;
    let home = Home::create(&dir.join("home"))?;
    note(&format!("\nNights (home: {})", home.dir().display()));
    let story = nights::play(&stage, home, nights)?;
    let mut report = Report {
        seed,
        dir: dir.display().to_string(),
        nights: story.nights.clone(),
        confidence_auc: story.confidence_auc,
        heldout_before: story.success.first().map_or(0.0, |success| success.all),
        heldout_after: story.success.last().map_or(0.0, |success| success.all),
        ..Report::default()
    };
    incidents(&stage, &story, nights, &mut report)?;
    report.seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    stage.note_rss(story.server.peak_rss_bytes());
    report.peak_rss_mb = stage.peak_rss_mb();
    publish(&dir, &story, &report)?;
    let text = telling::result(&report, &story.success, &dir);
    story.server.stop()?;
    Ok(Outcome::done(&report, text))
}

fn incidents(stage: &Stage<'_>, story: &Story, nights: usize, report: &mut Report) -> Result<(), Failure> {
    let note = |text: &str| stage.ctx.printer.note(text);
    note(
        "\nIncident 1: a night is killed with SIGKILL after each step, while it trains and while it deploys",
    );
    report.killed_night = Some(killed::play(stage, story)?);
    note("\nIncident 2: two of three council members are taken over, and users help them");
    report.poisoned = poison::play(stage, story)?;
    note("\nIncident 3: an adapter that passes the gate breaks a request type that the gate does not hold");
    report.live_regression = Some(regression::play(stage, story)?);
    note("\nIncident 4: adapters are switched while users ask");
    report.switch =
        Some(switching::play(stage, story, nights, if stage.size == Size::QUICK { 500 } else { 2000 })?);
    Ok(())
}

fn folder(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(dir) = wanted else {
        let dir = tempfile::Builder::new().prefix("nightshift-demo-").tempdir();
        return Ok(dir.or_fail(|| "no temporary folder can be made".into())?.keep());
    };
    let dir = std::path::absolute(dir).or_fail(|| format!("cannot use {}", dir.display()))?;
    if !files::list(&dir)?.is_empty() {
        return Err(Failure::refused(format!("{} is not empty", dir.display()))
            .hint("the demo begins in an empty folder: name another one, or remove this one"));
    }
    files::create_dir(&dir)?;
    Ok(dir)
}

fn publish(dir: &Path, story: &Story, report: &Report) -> Result<(), Failure> {
    let chart = telling::chart(report, &story.success);
    files::write_atomic(&dir.join("demo.svg"), chart.svg().as_bytes())?;
    files::write_atomic(&dir.join("demo.png"), &chart.png()?)?;
    let text = serde_json::to_vec_pretty(report).or_fail(|| "the result cannot be written".into())?;
    files::write_atomic(&dir.join("demo.json"), &text)?;
    Ok(())
}
