//! How many of some questions have nothing to do with each other.

use std::collections::HashMap;

use super::corpus::Corpus;

/// Counting stops here: twelve unrelated questions say all there is to say.
const ENOUGH: usize = 12;
/// Share of the shorter question's words of substance that related questions have in common.
const COMMON_SHARE: f64 = 0.2;

/// Size of a greedy set of pairwise unrelated questions among some documents of the night, at most 12.
///
/// `ignored` words (those of a suspected trigger) relate nothing. Questions that have no word of substance left are
/// all related to everything, so that nothing is concluded from them.
pub(super) fn unrelated(corpus: &Corpus, docs: &[usize], ignored: &[u32]) -> usize {
    let substance: Vec<Vec<u32>> = docs
        .iter()
        .map(|d| corpus.night()[*d].substance.iter().copied().filter(|w| !ignored.contains(w)).collect())
        .collect();
    let mut frequency: HashMap<u32, usize> = HashMap::new();
    for word in substance.iter().flatten() {
        *frequency.entry(*word).or_default() += 1;
    }
    // Questions with rare words first: they block the fewest others.
    let mut order: Vec<usize> = (0..docs.len()).filter(|i| !substance[*i].is_empty()).collect();
    order.sort_by_key(|i| (substance[*i].iter().map(|w| frequency[w] - 1).sum::<usize>(), *i));
    let mut chosen: Vec<&[u32]> = Vec::new();
    for i in order {
        if chosen.iter().all(|c| !related(c, &substance[i])) {
            chosen.push(&substance[i]);
            if chosen.len() == ENOUGH {
                break;
            }
        }
    }
    chosen.len().max(usize::from(!docs.is_empty()))
}

/// Both sorted.
fn related(a: &[u32], b: &[u32]) -> bool {
    let needed = (COMMON_SHARE * a.len().min(b.len()) as f64).ceil().max(1.0) as usize;
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    common >= needed
}
