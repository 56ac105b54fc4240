//! Values of several words: cities, titles, reasons.
//!
//! What stands between the same words before and after is one value if it is seen with many texts of several
//! lengths that neither begin nor end alike, or if single words were found to be values there.

use std::collections::{BTreeSet, HashMap};

use super::forms::{Edits, Forms, Holes, Role};
use super::slots::{MANY, Part, closed};

/// Words of a value.
pub(super) const LONGEST: usize = 6;
/// Different phrases, where single words are values.
const SOME: usize = 3;
/// Different texts that make the end of a message a value.
const MANY_ENDINGS: usize = 10;

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let mut groups: HashMap<(usize, u64), Vec<Part>> = HashMap::new();
    let mut whole: HashMap<u64, usize> = HashMap::new();
    let closed = closed(forms);
    for (index, form) in forms.forms.iter().enumerate() {
        let holes = Holes::new(forms, &form.tokens);
        whole.insert(holes.whole(), index);
        for start in 1..form.tokens.len() {
            let most = LONGEST.min(form.tokens.len() - start);
            let words = form.tokens[start..start + most]
                .iter()
                .take_while(|&&token| forms.role(token) == Role::Word)
                .count();
            let shortest = 1 + usize::from(closed.contains(&(index, start)));
            for length in shortest..=words {
                let span = start..start + length;
                let key = holes.with(span.clone(), forms.value_hash(form.tokens[start], false));
                groups.entry((start, key)).or_default().push(Part { form: index, span });
            }
        }
    }
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for ((_, key), group) in groups {
        if is_phrase(forms, &group, whole.contains_key(&key)) {
            for part in group {
                edits[part.form].push(part.span);
            }
        }
    }
    edits
}

fn is_phrase(forms: &Forms, group: &[Part], valued: bool) -> bool {
    let Part { form, span } = &group[0];
    let tokens = &forms.forms[*form].tokens;
    let ending = span.end == tokens.len();
    let before = forms.words(&tokens[..span.start]);
    let after = forms.words(&tokens[span.end..]);
    let lengths: BTreeSet<usize> = group.iter().map(|part| part.span.len()).collect();
    let longer = group.iter().filter(|part| part.span.len() > 1).count();
    if longer == 0 || before == 0 || before + after < 3 {
        return false;
    }
    // A word that most of them share belongs to the message, not to the value.
    let mut uses: HashMap<u32, usize> = HashMap::new();
    for part in group {
        let words: BTreeSet<u32> = forms.forms[part.form].tokens[part.span.clone()].iter().copied().collect();
        for word in words {
            *uses.entry(word).or_default() += 1;
        }
    }
    let varied = uses.values().all(|&uses| uses * 2 <= group.len().max(SOME));
    let many = if ending { MANY_ENDINGS } else { MANY };
    varied && (group.len() >= many && lengths.len() >= 2 || valued && !ending && longer >= SOME)
}
