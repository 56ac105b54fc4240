//! Where a series changes its level: optimal partitioning with functional pruning (FPOP: Maidstone, Hocking,
//! Rigaill and Fearnhead 2017, "On optimal multiple changepoint algorithms for large data").
//!
//! Finds the segmentation with the least sum of costs plus a penalty for every change, exactly. A start of a
//! segment is remembered as long as there is a level at which it may still turn out best: of n starts that
//! is about ln n of them, whether the series changes or not (PELT, which compares costs alone, drops hardly
//! any as long as nothing changes).

/// A series whose segments have costs that depend on one number, their level: a sum of squares, minus twice a
/// log-likelihood. The cost of a segment at any level is the sum of the costs of its parts at that level.
pub trait Levels {
    /// How many values.
    fn length(&self) -> usize;

    /// The best level of `start..end`.
    fn fit(&self, start: usize, end: usize) -> Fit;

    /// The levels at which the segment of `fit` costs at most `more` (0 or above) than at its best.
    fn within(fit: Fit, more: f64) -> Within;
}

/// The best level of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// What the segment costs there.
    pub cost: f64,
    /// The level; of counts its logarithm.
    level: f64,
    /// How fast the cost grows around it; 0 when every level costs the same.
    weight: f64,
}

/// Bounds of a set of levels: one range that holds all of it, and one that it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    outer: Range,
    inner: Range,
}

/// Levels from `low` to `high`; none when they cross.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f64,
    high: f64,
}

const EVERYTHING: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY };
const NOTHING: Range = Range { low: f64::INFINITY, high: f64::NEG_INFINITY };

impl Range {
    fn and(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }
}

/// A start of a segment, and levels at which none is known that is better for all that may follow.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    levels: Range,
    fit: Fit,
}

impl Piece {
    const fn new(start: usize, levels: Range) -> Self {
        Self { start, levels, fit: Fit { cost: 0.0, level: 0.0, weight: 0.0 } }
    }
}

/// What sums of rounded numbers may be off, of the numbers.
const ROUNDING: f64 = 1e-9;

/// The first positions of all segments but the first, ascending.
pub fn changes<L: Levels>(series: &L, penalty: f64) -> Vec<usize> {
    let length = series.length();
    // best[t]: least cost of 0..t; from[t]: where its last segment begins.
    let mut best = vec![f64::INFINITY; length + 1];
    let mut from = vec![0; length + 1];
    best[0] = -penalty;
    let mut pieces = vec![Piece::new(0, EVERYTHING)];
    let mut taken: Vec<Range> = Vec::new();
    for end in 1..=length {
        let mut last: Option<Piece> = None;
        for piece in &mut pieces {
            // Pieces of one start follow each other.
            piece.fit = match last {
                Some(last) if last.start == piece.start => last.fit,
                _ => series.fit(piece.start, end),
            };
            last = Some(*piece);
            let through = best[piece.start] + piece.fit.cost + penalty;
            if through < best[end] {
                best[end] = through;
                from[end] = piece.start;
            }
        }
        // Where a segment from a start costs more than the best so far and a change, the latter is better, whatever
        // follows; where it costs less, a change here is worse.
        taken.clear();
        pieces.retain_mut(|piece| {
            let through = best[piece.start] + piece.fit.cost;
            let slack = ROUNDING * (1.0 + through.abs() + best[end].abs());
            let more = best[end] - through + slack;
            if more < 0.0 {
                return false;
            }
            let outer = L::within(piece.fit, more).outer;
            let inner = L::within(piece.fit, (more - 2.0 * slack).max(0.0)).inner;
            taken.push(piece.levels.and(inner));
            piece.levels = piece.levels.and(outer);
            !piece.levels.is_empty()
        });
        taken.sort_by(|a, b| a.low.total_cmp(&b.low));
        let mut low = f64::NEG_INFINITY;
        for taken in taken.iter().filter(|taken| !taken.is_empty()) {
            if low < taken.low {
                pieces.push(Piece::new(end, Range { low, high: taken.low }));
            }
            low = low.max(taken.high);
        }
        if low < f64::INFINITY {
            pieces.push(Piece::new(end, Range { low, high: f64::INFINITY }));
        }
    }
    let mut changes = Vec::new();
    let mut end = length;
    while from[end] > 0 {
        end = from[end];
        changes.push(end);
    }
    changes.reverse();
    changes
}

/// Prefix sums from which the cost of a segment takes two subtractions.
#[derive(Debug, Clone)]
pub struct Sums {
    sums: Vec<[f64; 3]>,
}

impl Sums {
    /// Of values with weights (1 / variance, or a count).
    pub fn of(values: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut sums = vec![[0.0; 3]];
        let mut last = [0.0; 3];
        for (value, weight) in values {
            last = [last[0] + weight, last[1] + weight * value, last[2] + weight * value * value];
            sums.push(last);
        }
        Self { sums }
    }

    fn part(&self, start: usize, end: usize) -> [f64; 3] {
        let (a, b) = (self.sums[start], self.sums[end]);
        [b[0] - a[0], b[1] - a[1], b[2] - a[2]]
    }

    /// Sum of the weights.
    pub fn weight(&self, start: usize, end: usize) -> f64 {
        self.part(start, end)[0]
    }

    /// Weighted mean; 0 without weight.
    pub fn mean(&self, start: usize, end: usize) -> f64 {
        let [weight, sum, _] = self.part(start, end);
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// Weighted squares around the mean: minus twice the log-likelihood of a normal level.
    pub fn squares(&self, start: usize, end: usize) -> f64 {
        let [weight, sum, squares] = self.part(start, end);
        if weight > 0.0 { (squares - sum * sum / weight).max(0.0) } else { 0.0 }
    }
}

impl Levels for Sums {
    fn length(&self) -> usize {
        self.sums.len() - 1
    }

    fn fit(&self, start: usize, end: usize) -> Fit {
        let [weight, sum, squares] = self.part(start, end);
        if weight > 0.0 {
            Fit { cost: (squares - sum * sum / weight).max(0.0), level: sum / weight, weight }
        } else {
            Fit { cost: 0.0, level: 0.0, weight: 0.0 }
        }
    }

    /// Weight times the squared distance from the mean.
    fn within(Fit { level, weight, .. }: Fit, more: f64) -> Within {
        let reach = if weight > 0.0 { (more / weight).sqrt() } else { f64::INFINITY };
        let range = Range { low: level - reach, high: level + reach };
        Within { outer: range, inner: range }
    }
}

/// Prefix sums of counts and of what they are counted over.
#[derive(Debug, Clone)]
pub struct CountSums {
    sums: Vec<(f64, f64)>,
}

impl CountSums {
    /// Of (count, exposure) pairs.
    pub fn of(values: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut sums = vec![(0.0, 0.0)];
        let mut last = (0.0, 0.0);
        for (count, exposure) in values {
            last = (last.0 + count, last.1 + exposure);
            sums.push(last);
        }
        Self { sums }
    }

    /// Count and exposure of a segment.
    pub fn part(&self, start: usize, end: usize) -> (f64, f64) {
        let (a, b) = (self.sums[start], self.sums[end]);
        (b.0 - a.0, b.1 - a.1)
    }

    /// Minus twice the log-likelihood of one Poisson rate, but for what all segmentations share.
    pub fn deviance(&self, start: usize, end: usize) -> f64 {
        let (count, exposure) = self.part(start, end);
        if count > 0.0 && exposure > 0.0 { -2.0 * count * (count / exposure).ln() } else { 0.0 }
    }
}

impl Levels for CountSums {
    fn length(&self) -> usize {
        self.sums.len() - 1
    }

    fn fit(&self, start: usize, end: usize) -> Fit {
        let (count, exposure) = self.part(start, end);
        if exposure <= 0.0 {
            // Counts without an exposure have no rate: they say nothing of any level.
            let level = if count > 0.0 { f64::INFINITY } else { 0.0 };
            Fit { cost: 0.0, level, weight: 0.0 }
        } else if count > 0.0 {
            let level = (count / exposure).ln();
            Fit { cost: -2.0 * count * level, level, weight: count }
        } else {
            Fit { cost: 0.0, level: f64::NEG_INFINITY, weight: exposure }
        }
    }

    /// At u above the logarithm of the best rate, `count` cost 2 count (e^u - 1 - u) more; without any, the rate l
    /// costs 2 l exposure. Bounds instead of roots: e^u - 1 - u lies between u^2 / 2 and u^2 / (2 - 2u / 3) above 0,
    /// and between u^2 / (2 - u) and u^2 / 2 below.
    fn within(Fit { level, weight, .. }: Fit, more: f64) -> Within {
        if weight <= 0.0 {
            return Within { outer: EVERYTHING, inner: if level.is_finite() { EVERYTHING } else { NOTHING } };
        }
        let reach = more / (2.0 * weight);
        if level == f64::NEG_INFINITY {
            let range = Range { low: f64::NEG_INFINITY, high: reach.ln() };
            return Within { outer: range, inner: range };
        }
        let even = (2.0 * reach).sqrt();
        let up = (reach * reach / 9.0 + 2.0 * reach).sqrt() - reach / 3.0;
        let down = f64::midpoint((reach * reach + 8.0 * reach).sqrt(), reach);
        Within {
            outer: Range { low: level - down, high: level + even },
            inner: Range { low: level - even, high: level + up },
        }
    }
}
