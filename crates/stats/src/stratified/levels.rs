//! How much whole hours are better or worse than their place in the week explains.
//!
//! Each hour's mean score is taken to be that of its stratum plus a level of its own, with variance `t^2` and a
//! correlation of `r^d` between hours `d` apart. Both numbers are fitted by least squares to the products of the
//! rests of hours on the side before (moments as in Liang and Zeger 1986): a baseline of weeks has hundreds of
//! hours to tell by, where the hours of the comparison itself are a few dozen.

use super::Block;

/// Hours of a week and of a day: the cycles whose hours may be taken to have one mean.
const CYCLES: [i64; 2] = [168, 24];
/// Fewer hours beyond those that the means take tell nothing reliable.
const FEWEST_FREE: usize = 72;
/// Hours farther apart are not asked how they go together.
const REACH: i64 = 24;
/// Hours that tell as much of how levels scatter as one independent piece would.
const PIECE: f64 = 40.0;
/// Steps of the persistence that are tried.
const STEPS: u32 = 49;

/// Variance and persistence of the levels of hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Variance of the mean score of an hour, beyond what its calls explain.
    pub variance: f64,
    /// Correlation of neighbouring hours.
    pub persistence: f64,
    /// Degrees of freedom of both: as many as means of two days' hours would have.
    pub freedom: f64,
}

/// The rest of an hour: what its calls add up to beyond the mean of its place in the cycle.
struct Rest {
    time: i64,
    rest: f64,
    count: f64,
    /// Part that fitting the mean leaves.
    free: f64,
    /// Variance that the calls of the hour explain.
    own: f64,
}

impl Levels {
    /// Estimates from the blocks before, in the order of time. `None` where there are too few to tell.
    pub fn of(blocks: &[Block]) -> Option<Self> {
        let before: Vec<&Block> = blocks.iter().filter(|block| !block.after && block.count > 0.0).collect();
        CYCLES.iter().find_map(|cycle| {
            let (rests, means) = rests(&before, *cycle);
            let free = rests.len().saturating_sub(means);
            let enough = free >= FEWEST_FREE && 2 * free >= rests.len();
            enough.then(|| Self { freedom: free as f64 / PIECE, ..fit(&rests) })
        })
    }
}

/// The rests around the means of the hours of a cycle, and how many means were fitted. Hours that are alone in their
/// place have none.
fn rests(before: &[&Block], cycle: i64) -> (Vec<Rest>, usize) {
    #[derive(Clone, Copy, Default)]
    struct Place {
        hours: usize,
        count: f64,
        sum: f64,
        within: f64,
        freedom: f64,
    }
    let mut places = vec![Place::default(); cycle as usize];
    let at = |block: &Block| block.time.rem_euclid(cycle) as usize;
    for block in before {
        let place = &mut places[at(block)];
        place.hours += 1;
        place.count += block.count;
        place.sum += block.sum;
        place.within += (block.squares - block.sum * block.sum / block.count).max(0.0);
        place.freedom += block.count - 1.0;
    }
    let useful = |place: &Place| place.hours >= 2 && place.freedom > 0.0;
    let rests = before.iter().filter(|block| useful(&places[at(block)])).map(|block| {
        let place = places[at(block)];
        let free = 1.0 - block.count / place.count;
        Rest {
            time: block.time,
            rest: block.sum - block.count * place.sum / place.count,
            count: block.count,
            free,
            own: block.count * free * place.within / place.freedom,
        }
    });
    (rests.collect(), places.iter().filter(|place| useful(place)).count())
}

fn fit(rests: &[Rest]) -> Levels {
    // By distance: the sum of the products of rests, less what calls explain, and what it would be for t^2 = 1.
    let mut lags = [(0.0, 0.0); REACH as usize + 1];
    for (index, a) in rests.iter().enumerate() {
        for b in rests[index..].iter().take_while(|b| b.time - a.time <= REACH) {
            let (found, scale) = &mut lags[(b.time - a.time) as usize];
            let own = if a.time == b.time { a.own } else { 0.0 };
            *found += a.rest * b.rest - own;
            *scale += a.count * b.count * (a.free * b.free).sqrt();
        }
    }
    // A square scatters twice as much as a product of two.
    let weighted = lags.iter().enumerate().map(|(lag, (found, scale))| {
        let weight = if lag == 0 { 0.5 } else { 1.0 };
        (lag as i32, weight * found, weight * scale)
    });
    let mut best = (0.0, Levels { variance: 0.0, persistence: 0.0, freedom: 1.0 });
    for persistence in (0..STEPS).map(|step| f64::from(step) / f64::from(STEPS)) {
        let (mut found, mut scale) = (0.0, 0.0);
        for (lag, lag_found, lag_scale) in weighted.clone() {
            let together = persistence.powi(lag);
            found += together * lag_found;
            scale += together * together * lag_scale;
        }
        if scale > 0.0 && found > 0.0 && found * found / scale > best.0 {
            best = (found * found / scale, Levels { variance: found / scale, persistence, freedom: 1.0 });
        }
    }
    best.1
}
