//! Changes of the distribution of durations that leave its middle where it was: a longer tail from an
//! instant on, or a slow drift of the whole shape.

use nightshift_stats::rank::{kolmogorov_smirnov, mann_whitney};
use serde_json::Map;

use super::deviation::deviations;
use super::finding::{Finding, Tested, clock, impact, length, percent};
use super::latency::{Histogram, Latency};
use super::level::{Counts, Segment};
use super::track::{Hours, Track};
use crate::pattern::PatternType;

/// The tail is what lies above this quantile of the calmest quarter of the time.
const TAIL: f64 = 0.975;
/// Its share has grown from this factor on.
const GROWN: f64 = 2.0;
/// The median has stayed within this factor.
const STAYED: f64 = 1.35;
/// Least distance of the distribution functions that is a drift.
const DISTANCE: f64 = 0.04;
/// Least change of the spread (the logarithm of p90 / p10), as a factor.
const SPREAD: f64 = 1.25;
/// Of what the slow calls move away from the median, the fast ones move so much in a drift.
const BOTH: f64 = 0.6;
/// Fewest durations of a part that is compared.
const FEWEST: u64 = 100;

/// A longer tail; `unusual` are hours whose level is another one anyway.
pub(crate) fn tail(
    track: &Track<'_>,
    hours: Hours,
    latency: &Latency,
    unusual: &[Segment],
    all: u64,
) -> Tested {
    let quarter = hours.count.div_ceil(4);
    let parts = (0..4).map(|i| Segment {
        start: (i * quarter).min(hours.count),
        end: ((i + 1) * quarter).min(hours.count),
    });
    let calm = parts
        .filter(|part| latency.calls(*part) >= FEWEST / 4)
        .map(|part| latency.histogram(&[part]).ln_quantile(TAIL))
        .min_by(f64::total_cmp);
    let Some(limit) = calm else { return Tested::nothing() };
    let counts = Counts::new(hours, latency.above(limit), latency.counts.clone());
    let longest = deviations(&counts, &counts.segments(), true)
        .into_iter()
        .filter(|deviation| deviation.stays && !unusual.iter().any(|other| overlap(*other, deviation.hours)))
        .max_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let Some(deviation) = longest else { return Tested::nothing() };
    let Segment { start, end } = deviation.hours;
    let (old, new) =
        (latency.histogram(&[Segment { start: 0, end: start }]), latency.histogram(&[deviation.hours]));
    let middle = (new.ln_quantile(0.5) - old.ln_quantile(0.5)).abs();
    let grown = |q: f64| new.ms(q) / old.ms(q).max(1e-6);
    let enough = deviation.ratio >= GROWN && middle < STAYED.ln() && grown(0.95).max(grown(0.99)) >= 1.3;
    let name = &track.name;
    let calls = latency.calls(deviation.hours);
    let (from, until) = (hours.hour(start), hours.hour(end));
    let finding = enough.then(|| {
        let text = format!(
            "Since {} the slowest calls of {name} are slower: p95 {}, was {}, p99 {}, was {}, while the median stayed at {}",
            clock(from),
            length(new.ms(0.95)),
            length(old.ms(0.95)),
            length(new.ms(0.99)),
            length(old.ms(0.99)),
            length(new.ms(0.5)),
        );
        Finding {
            kind: PatternType::TailGrowth,
            operation: Some(name.clone()),
            about: "latency".into(),
            text,
            occurrences: calls,
            impact: impact(grown(0.95).max(grown(0.99)), calls as f64 / all.max(1) as f64) * 0.8,
            from,
            until,
            metadata: Map::new(),
        }
        .number("tail_ratio", deviation.ratio)
        .number("tail_limit_ms", limit.exp() / 1000.0)
        .number("before_p50_ms", old.ms(0.5))
        .number("after_p50_ms", new.ms(0.5))
        .number("before_p95_ms", old.ms(0.95))
        .number("after_p95_ms", new.ms(0.95))
        .number("before_p99_ms", old.ms(0.99))
        .number("after_p99_ms", new.ms(0.99))
    });
    Tested::new(deviation.p, hours.splits(), finding)
}

/// A slow change of the whole shape: the first part of the log (a week, of a shorter log a third) against the last.
pub(crate) fn drift(track: &Track<'_>, hours: Hours, latency: &Latency, all: u64) -> Tested {
    let part = (7 * 24).min(hours.count / 3);
    let ends = [Segment { start: 0, end: part }, Segment { start: hours.count - part, end: hours.count }];
    let middle = Segment { start: part, end: hours.count - part };
    if ends.iter().any(|part| latency.calls(*part) < FEWEST) {
        return Tested::nothing();
    }
    let [old, new] = ends.map(|part| latency.histogram(&[part]));
    // Compared around the same median: a move of the whole is a shift or a trend.
    let aside = ((old.ln_quantile(0.5) - new.ln_quantile(0.5)) * 64.0).round() as i32;
    let test = kolmogorov_smirnov(&old.beside(&new, aside));
    // Distances from the median tell a change of scale with fewer calls; the better of two tests counts twice.
    let apart = mann_whitney(&old.around_median().beside(&new.around_median(), 0));
    let p = (2.0 * test.p.min(apart.p)).min(1.0);
    let between = latency.histogram(&[middle]);
    // How far the fast calls and the slow ones lie from the middle, and how that has changed.
    let width = |h: &Histogram, low: f64, high: f64| (h.ln_quantile(high) - h.ln_quantile(low)).max(0.01);
    let change = |h: &Histogram, low: f64, high: f64| (width(h, low, high) / width(&old, low, high)).ln();
    let [fast, slow, spread] =
        [(0.1, 0.5), (0.5, 0.95), (0.1, 0.9)].map(|(low, high)| change(&new, low, high));
    let halfway = change(&between, 0.1, 0.9);
    // A tail alone leaves the fast ones where they are; a drift is on its way in between.
    let under_way = halfway * spread > 0.0 && halfway.abs() < spread.abs();
    let both = fast * slow > 0.0 && fast.abs() >= BOTH * slow.abs();
    let enough = test.distance >= DISTANCE && spread.abs() >= SPREAD.ln() && both && under_way;
    let name = &track.name;
    let calls = latency.calls(ends[1]);
    let range = |h: &Histogram| format!("{} to {}", length(h.ms(0.1)), length(h.ms(0.9)));
    let finding = enough.then(|| {
        let text = format!(
            "Durations of {name} drift: eight calls in ten took {} at first, {} at last, median {} and {}; the distributions are {} apart",
            range(&old),
            range(&new),
            length(old.ms(0.5)),
            length(new.ms(0.5)),
            percent(test.distance),
        );
        Finding {
            kind: PatternType::Drift,
            operation: Some(name.clone()),
            about: "latency".into(),
            text,
            occurrences: calls,
            impact: impact(spread.abs().exp(), calls as f64 / all.max(1) as f64) * 0.6,
            from: hours.hour(0),
            until: hours.hour(hours.count),
            metadata: Map::new(),
        }
        .number("distance", test.distance)
        .number("spread_ratio", spread.exp())
        .number("before_p10_ms", old.ms(0.1))
        .number("after_p10_ms", new.ms(0.1))
        .number("before_p50_ms", old.ms(0.5))
        .number("after_p50_ms", new.ms(0.5))
        .number("before_p90_ms", old.ms(0.9))
        .number("after_p90_ms", new.ms(0.9))
    });
    Tested::new(p, 1, finding)
}

fn overlap(a: Segment, b: Segment) -> bool {
    a.start < b.end && b.start < a.end
}
