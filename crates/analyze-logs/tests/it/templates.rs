//! `templates` as its users run it, and the templates of logs whose truth is known.

use std::collections::HashMap;
use std::io::Write;
use std::process::Stdio;

use nightshift_analyze_logs::templates::{Miner, Templates};
use nightshift_testkit::Home;

use crate::planted::{self, Draw, FRESH, HELD_OUT, SHAPES, Shape};

/// How a log with planted templates came out.
struct Found {
    /// Planted templates that are one group of exactly their messages.
    exact: usize,
    planted: usize,
    /// The others.
    lost: Vec<&'static str>,
    /// Groups of three or more messages that are all noise.
    noise: usize,
}

fn evaluate(seed: u64, shapes: &[Shape]) -> Found {
    let log = planted::log(seed, shapes, 204);
    let mut miner = Miner::default();
    let ids: Vec<_> = log.iter().map(|(_, message)| miner.add(message)).collect();
    let templates = miner.finish();
    let mut groups: HashMap<usize, Vec<Option<&str>>> = HashMap::new();
    let mut of: HashMap<&str, Vec<usize>> = HashMap::new();
    for (&id, &(name, _)) in ids.iter().zip(&log) {
        let group = templates.index_of(id);
        groups.entry(group).or_default().push(name);
        if let Some(name) = name {
            of.entry(name).or_default().push(group);
        }
    }
    let exact = |name: &str| {
        let groups_of = &of[name];
        groups_of.iter().all(|group| *group == groups_of[0])
            && groups[&groups_of[0]].iter().all(|member| *member == Some(name))
    };
    let lost: Vec<&str> = shapes.iter().map(|(name, _)| *name).filter(|name| !exact(name)).collect();
    let noise = groups.values().filter(|group| group.len() >= 3 && group.iter().all(Option::is_none)).count();
    Found { exact: shapes.len() - lost.len(), planted: shapes.len(), lost, noise }
}

#[test]
fn planted_templates_come_back_whole() {
    for seed in 0..5 {
        let found = evaluate(seed, &SHAPES);
        assert_eq!((found.exact, found.noise), (found.planted, 0), "seed {seed}: {:?}", found.lost);
    }
}

#[test]
fn shapes_that_were_held_out_come_back() {
    // What is lost of `FRESH`: a boolean, few reasons at the end of a message, and cities in far too few messages.
    for (shapes, share) in [(HELD_OUT.as_slice(), 98), (FRESH.as_slice(), 84)] {
        let (mut exact, mut planted) = (0, 0);
        for seed in 0..5 {
            let found = evaluate(seed, shapes);
            assert_eq!(found.noise, 0, "seed {seed}");
            exact += found.exact;
            planted += found.planted;
        }
        assert!(exact * 100 >= planted * share, "{exact} of {planted}");
    }
}

#[test]
fn the_order_of_messages_and_the_way_they_are_split_change_nothing() {
    let log: Vec<String> = planted::log(3, &SHAPES, 204).into_iter().map(|(_, message)| message).collect();
    let mut whole = Miner::default();
    for message in &log {
        whole.add(message);
    }
    let wanted = whole.finish();
    let mut draw = Draw::new(9);
    for parts in [1, 2, 5] {
        let mut miners: Vec<Miner> = (0..parts).map(|_| Miner::default()).collect();
        for message in log.iter().rev() {
            miners[draw.below(parts)].add(message);
        }
        let mut merged = Miner::default();
        for miner in &miners {
            merged.merge(miner);
        }
        assert_eq!(merged.finish().all(), wanted.all());
    }
}

#[test]
fn a_merged_miner_knows_the_numbers_of_its_parts() {
    let mut left = Miner::default();
    let mut right = Miner::default();
    left.add("disk full on node 3");
    let lost = right.add("lease lost after 20 ms");
    let full = right.add("disk full on node 9");
    let numbers = left.merge(&right);
    let templates = left.finish();
    assert_eq!(templates.of(numbers[lost as usize]).text, "lease lost after <*>");
    let full = templates.of(numbers[full as usize]);
    assert_eq!(
        (full.text.as_str(), full.count, full.example.as_str()),
        ("disk full on node <*>", 2, "disk full on node 3")
    );
}

fn mine(messages: &[&str]) -> (Vec<String>, Templates) {
    let mut miner = Miner::default();
    let ids: Vec<_> = messages.iter().map(|message| miner.add(message)).collect();
    let templates = miner.finish();
    (ids.iter().map(|&id| templates.of(id).text.clone()).collect(), templates)
}

#[test]
fn values_are_known_by_their_shape() {
    for (message, template) in [
        ("took 12.5 ms", "took <*>"),
        ("took 3 seconds", "took <*>"),
        ("from 10.0.0.7:8080 to fe80::1%eth0", "from <*> to <*>"),
        ("id 6fa459ea-ee8a-3ca4-894e-db77e160355e gone", "id <*> gone"),
        ("at 2026-03-01T02:00:00.123Z and at 12:30:01", "at <*> and at <*>"),
        ("on Sat Jul  9 11:35:59 2005 UTC done", "on <*> done"),
        ("see https://example.com/a?b=c#d, please", "see <*>, please"),
        ("open /var/lib/x.db failed", "open <*> failed"),
        ("open C:\\Users\\x\\y.txt failed", "open <*> failed"),
        ("seq/ack/win is odd", "seq/ack/win is odd"),
        ("block blk_-1608999687919862906 served", "block blk_<*> served"),
        ("eth0 up", "eth<*> up"),
        ("nginx/1.18.0 started", "nginx/<*> started"),
        ("mail to ann@example.com bounced", "mail to <*> bounced"),
        ("sizes [1, 2, 3] and [4]", "sizes [<*>] and [<*>]"),
        ("names [a, b] taken", "names [<*>] taken"),
        ("no names () in it", "no names (<*>) in it"),
        ("call() again", "call() again"),
        ("user=bob pid=17", "user=bob pid=<*>"),
        ("std::io::Error here", "std::io::Error here"),
        ("it isn't so", "it isn't so"),
        ("第3次重试失败", "第<*>次重试失败"),
        ("\u{1b}[31mred 5\u{1b}[0m alarm", "red <*> alarm"),
        ("wrote 28902 bytes (28.2 KB) to disk", "wrote <*> to disk"),
        ("lifetime <1 sec", "lifetime <*>"),
        ("", ""),
    ] {
        assert_eq!(mine(&[message]).0[0], template, "{message}");
    }
}

#[test]
fn no_message_is_too_odd() {
    let pieces = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        ":",
        "::",
        "://",
        "/",
        "\\",
        ",",
        ";",
        " ",
        "\t",
        "\u{1}",
        "\u{2}",
        "\u{1b}[",
        "=",
        "<",
        ">",
        "-",
        "--",
        ".",
        "..",
        "é",
        "日本",
        "0",
        "17",
        "0x",
        "a",
        "fe80",
        "x1y2",
        "Mon",
        "Jul",
        "ms",
        "B",
        "KB",
        "null",
        "true",
        "C",
        "@",
        "%",
        "#",
        "http",
        "\u{0}",
        "\u{a0}",
        "\u{feff}",
        "👩‍🚀",
        "\n",
        "\r",
    ];
    for seed in 0..30 {
        let mut draw = Draw::new(seed);
        let mut miner = Miner::default();
        let mut ids = Vec::new();
        for _ in 0..400 {
            let most = if draw.below(40) == 0 { 6_000 } else { 14 };
            let length = draw.below(most);
            let message: String = (0..length).map(|_| pieces[draw.below(pieces.len())]).collect();
            ids.push(miner.add(&message));
            assert_eq!(miner.add(&message), ids[ids.len() - 1]);
        }
        let templates = miner.finish();
        assert_eq!(templates.all().iter().map(|template| template.count).sum::<u64>(), 800);
        for id in ids {
            let text = &templates.of(id).text;
            assert!(!text.contains(['\u{1}', '\u{2}', '\n']), "{text:?}");
        }
    }
}

#[test]
fn opposites_never_share_a_template() {
    for (one, other) in [
        ("connected", "disconnected"),
        ("opened", "closed"),
        ("started", "stopped"),
        ("enabled", "disabled"),
        ("succeeded", "failed"),
        ("locked", "unlocked"),
        ("up", "down"),
        ("valid", "invalid"),
    ] {
        let words = ["paused", "moved", "seen", "split", "kept", "named", one, other];
        let messages: Vec<String> = (0..400)
            .map(|at| format!("channel {} of the pool was {}", at * 7, words[at % words.len()]))
            .collect();
        let (texts, _) = mine(&messages.iter().map(String::as_str).collect::<Vec<_>>());
        assert_ne!(texts[6], texts[7], "{one} {other}");
        assert_eq!(texts[6], texts[14]);
    }
}

#[test]
fn three_words_of_few_values_that_combine_are_values() {
    let lists: [[&[&str]; 3]; 3] = [
        [&["planner", "coder", "critic"], &["fetch", "parse", "rank"], &["index", "report", "ledger"]],
        [&["planner", "coder"], &["fetch", "parse", "rank", "trim"], &["index", "report", "ledger"]],
        [
            &["planner", "coder", "critic", "tester"],
            &["fetch", "parse"],
            &["index", "report", "ledger", "cache", "queue"],
        ],
    ];
    for [who, act, what] in lists {
        let messages: Vec<String> = (0..200)
            .map(|at| {
                let (a, b, c) =
                    (at % who.len(), at / who.len() % act.len(), at / who.len() / act.len() % what.len());
                format!("{} could not {} the {} in time", who[a], act[b], what[c])
            })
            .collect();
        let (texts, _) = mine(&messages.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(texts.iter().all(|text| text == "<*> could not <*> the <*> in time"), "{:?}", &texts[..9]);
    }
    // Two words are bound to each other as often as not.
    let pairs: Vec<String> = (0..200)
        .map(|at| {
            format!(
                "the {} was {} today",
                ["index", "report", "ledger"][at % 3],
                ["seen", "moved", "split"][at / 3 % 3]
            )
        })
        .collect();
    assert_eq!(mine(&pairs.iter().map(String::as_str).collect::<Vec<_>>()).0[0], "the index was seen today");
}

#[test]
fn messages_that_share_three_words_and_never_recur_are_no_template() {
    let (mut draw, mut seen) = (Draw::new(5), std::collections::BTreeSet::new());
    while seen.len() < 204 {
        let mut word =
            || format!("w{}", ["a", "e", "i", "o"].map(|end| [end, "n", "r", "st"][draw.below(4)]).concat());
        seen.insert(format!("unexpected {} while {} the {}", word(), word(), word()));
    }
    let messages: Vec<&str> = seen.iter().map(String::as_str).collect();
    let (_, templates) = mine(&messages);
    assert!(templates.all()[0].count < 3, "{:?}", templates.all()[0]);
}

#[test]
fn the_id_of_a_template_is_that_of_its_text() {
    let (_, first) = mine(&["disk full on node 3"]);
    let (_, second) = mine(&["something else", "disk full on node 4", "disk full on node 5"]);
    assert_eq!(first.all()[0].id, second.all()[0].id);
    assert_eq!(first.all()[0].id.len(), 16);
}

const MESSAGES: &[u8] =
    b"\xef\xbb\xbfdisk 1 full\r\n\ndisk 2 full\nbad \xff\xfe byte\nnul \0 here, \"quoted\"\nlast 7";

#[test]
fn every_line_has_its_row_whatever_it_holds() {
    let home = Home::new();
    nightshift_core::files::write_atomic(&home.path().join("messages.txt"), MESSAGES).unwrap();
    let ran =
        home.run("analyze-logs", &["templates", "messages.txt", "--out", "rows.csv", "--json"]).expect(0);
    let report = ran.json();
    assert_eq!((report["lines"].as_u64(), report["invalid_utf8"].as_u64()), (Some(6), Some(1)));
    let rows = home.read("rows.csv");
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows[0], "line,template_id,template");
    assert_eq!(rows.len(), 7);
    assert!(rows[1].starts_with("1,") && rows[1].ends_with(",disk <*> full"), "{}", rows[1]);
    assert_eq!(rows[1].split_once(',').unwrap().1, rows[3].split_once(',').unwrap().1);
    assert!(rows[2].starts_with("2,") && rows[2].ends_with(','), "{}", rows[2]);
    assert!(rows[4].ends_with(",bad \u{fffd}\u{fffd} byte"), "{}", rows[4]);
    assert!(rows[5].ends_with(",\"nul here, \"\"quoted\"\"\""), "{}", rows[5]);
    assert!(rows[6].ends_with(",last <*>"), "{}", rows[6]);
}

#[test]
fn rows_go_to_stdout_and_messages_may_come_from_stdin() {
    let home = Home::new();
    let mut child = home
        .command("analyze-logs", &["templates", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let long = format!("{} end 5\n", "word ".repeat(50_000));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(long.as_bytes()).unwrap();
    stdin.write_all(b"short 5\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let rows = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[1].ends_with(" <*>") && rows[1].len() < 5_000, "{}", rows[1].len());
    assert!(rows[2].ends_with(",short <*>"));
    assert!(!home.path().join("sandbox_data").exists());
}

#[test]
fn what_cannot_be_done_is_said() {
    let home = Home::new();
    home.write("messages.txt", "one\n");
    home.run("analyze-logs", &["templates", "messages.txt", "--json"]).expect(2);
    let missing = home.run("analyze-logs", &["templates", "absent.txt", "--out", "rows.csv"]).expect(1);
    assert!(missing.stderr.contains("absent.txt"), "{}", missing.stderr);
    assert!(!home.path().join("rows.csv").exists());
    home.run("analyze-logs", &["templates", "messages.txt", "--out", "rows.csv", "--dry-run"]).expect(0);
    assert!(!home.path().join("rows.csv").exists());
    home.write("empty.txt", "");
    home.run("analyze-logs", &["templates", "empty.txt", "--out", "rows.csv"]).expect(0);
    assert_eq!(home.read("rows.csv"), "line,template_id,template\n");
}
