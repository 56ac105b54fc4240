//! Prints how far our losses are from those of PEFT and torch in every case of a file that
//! `fixtures/steps/make.py` wrote: `steps FILE [cpu|cuda:N]`. The last line is JSON; exit 1 beyond 1e-4.

mod case;

use std::error::Error;
use std::io::Write;
use std::path::Path;

use case::Steps;
use nightshift_model::Place;

/// Largest relative difference of a loss.
const LIMIT: f64 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: steps FILE [cpu|cuda:N]")?;
    let place: Place = std::env::args().nth(2).map_or(Ok(Place::Host), |name| name.parse())?;
    let device = place.open()?;
    let steps: Steps = serde_json::from_str(&nightshift_core::files::read_text(Path::new(&file))?)?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:20} {:8} {:7} {:>5} {:>12} {:>12} {:>8}",
        "case", "family", "passes", "steps", "loss", "grad norm", "learned"
    )?;
    let mut worst = 0.0_f64;
    for case in &steps.cases {
        for (packed, passes) in [(false, "padded"), (true, "packed")] {
            let found = steps.compare(case, &fixtures, packed, device.as_ref())?;
            writeln!(
                out,
                "{:20} {:8} {passes:7} {:>5} {:>12.2e} {:>12.2e} {:>8.3}",
                case.name, case.family, found.steps, found.loss, found.grad_norm, found.learned
            )?;
            worst = if found.loss <= worst { worst } else { found.loss };
        }
    }
    let met = worst < LIMIT;
    writeln!(
        out,
        "{}",
        serde_json::json!({"device": place.to_string(), "max_relative_loss_difference": worst, "met": met})
    )?;
    if met { Ok(()) } else { Err(format!("a loss differs by {worst:.1e} of itself").into()) }
}
