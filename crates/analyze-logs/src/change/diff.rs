//! The unified diff of one edit.

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// As `diff -u` prints it; an edit is one run of bytes, so one hunk. Empty where nothing changes.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let front = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&a[front..a.len() - back], &b[front..b.len() - back]);
    if gone.is_empty() && come.is_empty() {
        return String::new();
    }
    let before = &a[front.saturating_sub(CONTEXT)..front];
    let after = &a[a.len() - back..(a.len() - back + CONTEXT).min(a.len())];
    let range = |changed: usize| {
        let length = before.len() + changed + after.len();
        let first = front - before.len() + usize::from(length > 0);
        if length == 1 { first.to_string() } else { format!("{first},{length}") }
    };
    let mut text = format!("--- {name}\n+++ {name}\n@@ -{} +{} @@\n", range(gone.len()), range(come.len()));
    for (mark, lines) in [(' ', before), ('-', gone), ('+', come), (' ', after)] {
        for line in lines {
            text.push(mark);
            text.push_str(line.trim_end_matches(['\n', '\r']));
            text.push('\n');
            if !line.ends_with('\n') {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn one_hunk_with_context() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let expected = "--- x\n+++ x\n@@ -2,7 +2,8 @@\n b\n c\n d\n-e\n+E\n+!\n f\n g\n h\n";
        assert_eq!(unified("x", old, &old.replace("e\n", "E\n!\n")), expected);
        assert_eq!(unified("x", old, old), "");
        let end = "--- x\n+++ x\n@@ -1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+b\n";
        assert_eq!(unified("x", "a", "a\nb\n"), end);
    }
}
