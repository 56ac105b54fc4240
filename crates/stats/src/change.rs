//! Where a series changes its level: PELT (Killick, Fearnhead and Eckley 2012).
//!
//! Finds the segmentation with the least sum of costs plus a penalty for every change, exactly.

/// The first positions of all segments but the first, ascending. `cost(start, end)` is the cost of the
/// segment `start..end` (a sum of squares, minus twice a log-likelihood), never less than the costs of its
/// parts together.
pub fn pelt(length: usize, penalty: f64, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    // best[t]: least cost of 0..t; from[t]: where its last segment begins.
    let mut best = vec![f64::INFINITY; length + 1];
    let mut from = vec![0; length + 1];
    best[0] = -penalty;
    let mut starts: Vec<usize> = Vec::new();
    let mut costs: Vec<f64> = Vec::new();
    for end in 1..=length {
        starts.push(end - 1);
        costs.clear();
        for &start in &starts {
            let through = best[start] + cost(start, end);
            costs.push(through);
            if through + penalty < best[end] {
                best[end] = through + penalty;
                from[end] = start;
            }
        }
        // A start that is no better than the best even without the penalty never will be.
        let limit = best[end];
        let mut keep = costs.iter().map(|through| *through <= limit);
        starts.retain(|_| keep.next().unwrap_or(true));
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
