//! JSON Lines: bad lines are named, huge ones are not held.

use nightshift_core::files;
use nightshift_core::jsonl::{Lines, MAX_LINE_BYTES, read};

#[test]
fn bad_lines_are_named_and_the_rest_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    files::write_atomic(&path, b"\xef\xbb\xbf{\"a\":1}\n\nnot json\n{\"a\":2}").unwrap();
    let lines: Lines<serde_json::Value> = read(&path).unwrap();
    assert_eq!(lines.rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(lines.bad.len(), 1);
    assert!(lines.bad[0].to_string().contains("rows.jsonl:3: "), "{}", lines.bad[0]);
}

#[test]
fn a_huge_line_is_skipped_without_being_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    let mut bytes = vec![b'x'; MAX_LINE_BYTES + 10];
    bytes.extend_from_slice(b"\n{\"a\":2}\n");
    files::write_atomic(&path, &bytes).unwrap();
    let lines: Lines<serde_json::Value> = read(&path).unwrap();
    assert_eq!((lines.rows.len(), lines.bad[0].line), (1, 1));
}
