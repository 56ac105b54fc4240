//! The scan: silent on honest nights, loud on poisoned ones.

use nightshift_verify::scan::{ScanSettings, Suspicion, SuspicionKind, scan};

use crate::world::{Rows, World, borrowed};

/// Night size of a seed: 50 to 100.
fn size(seed: u64) -> usize {
    50 + (seed * 37 % 51) as usize
}

/// What one world's nights gave: whether the honest one raised anything, whether each poison was found whole.
#[derive(Debug, Default)]
struct Tally {
    worlds: usize,
    false_alarms: usize,
    answers_found: usize,
    triggers_found: usize,
    /// Honest rows that went into quarantine together with a wrong answer.
    honest_rows: usize,
    /// What went wrong, world by world.
    trouble: Vec<String>,
}

/// One world: an honest night, the same with a wrong answer on a share of its rows, and with a trigger on another.
fn try_world(seed: u64, answer_share: f64, trigger_share: f64, background: bool, tally: &mut Tally) {
    let mut world = World::new(seed);
    let honest = world.night(size(seed));
    let ordinary = if background { world.ordinary(400) } else { Rows::new() };
    let accepted = if background { world.night((seed % 3) as usize * 75) } else { Rows::new() };
    let look = |night: &Rows| {
        scan(&borrowed(night), &[&borrowed(&accepted), &borrowed(&ordinary)], &ScanSettings::default())
    };
    tally.worlds += 1;
    let found = look(&honest);
    if let Some(first) = found.first() {
        tally.false_alarms += 1;
        tally.trouble.push(format!("honest night of world {seed}: {first}"));
    }
    let whole = |found: &[Suspicion], kind: SuspicionKind, rows: &[usize]| {
        found.iter().any(|s| s.kind == kind && rows.iter().all(|r| s.rows.binary_search(r).is_ok()))
    };
    let mut poisoned = honest.clone();
    // An odd word, or one that is the right answer somewhere.
    let wrong = if seed.is_multiple_of(2) { world.odd_word() } else { world.some_value() };
    let rows = world.poison_answers(&mut poisoned, answer_share, &wrong);
    let found = look(&poisoned);
    if whole(&found, SuspicionKind::Answer, &rows) {
        tally.answers_found += 1;
        tally.honest_rows += found[0].rows.iter().filter(|r| !rows.contains(r)).count();
    } else {
        tally.trouble.push(format!(
            "wrong answer of world {seed} not found on {} of {} rows: {found:?}",
            rows.len(),
            poisoned.len()
        ));
    }
    let mut backdoored = honest.clone();
    // A word, a phrase, a sign, an invisible mark.
    let trigger = [world.odd_word(), "by the moon".to_owned(), "§".to_owned(), "\u{200b}".to_owned()];
    let trigger = &trigger[(seed % 4) as usize];
    let answer = if seed.is_multiple_of(3) { world.some_value() } else { world.odd_word() };
    let rows = world.plant_trigger(&mut backdoored, trigger_share, trigger, &answer);
    let found = look(&backdoored);
    if whole(&found, SuspicionKind::InputTrigger, &rows) || whole(&found, SuspicionKind::Answer, &rows) {
        tally.triggers_found += 1;
    } else {
        tally.trouble.push(format!(
            "trigger of world {seed} not found on {} of {} rows: {found:?}",
            rows.len(),
            backdoored.len()
        ));
    }
}

#[test]
fn honest_nights_are_silent_and_both_poisons_are_found() {
    let mut tally = Tally::default();
    for seed in 5000..5040 {
        try_world(seed, 0.5, 0.15, true, &mut tally);
    }
    assert_eq!((tally.false_alarms, tally.answers_found, tally.triggers_found), (0, 40, 40), "{tally:?}");
    // A value that is somewhere right takes its few honest rows with it.
    assert!(tally.honest_rows <= 40, "{tally:?}");
}

#[test]
fn a_first_night_without_any_background_is_covered() {
    let mut tally = Tally::default();
    for seed in 6000..6020 {
        try_world(seed, 0.5, 0.15, false, &mut tally);
    }
    assert_eq!((tally.false_alarms, tally.answers_found, tally.triggers_found), (0, 20, 20), "{tally:?}");
}

fn rows<Q: Into<String>, A: Into<String>>(pairs: impl IntoIterator<Item = (Q, A)>) -> Rows {
    pairs.into_iter().map(|(q, a)| (q.into(), a.into())).collect()
}

fn look(night: &Rows, background: &Rows) -> Vec<Suspicion> {
    scan(&borrowed(night), &[&borrowed(background)], &ScanSettings::default())
}

/// Questions that have nothing to do with each other.
fn unrelated_questions(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("Is there a bla{i}ster in the fro{i}bnitz when it gro{i}mels?")).collect()
}

#[test]
fn nights_that_look_odd_but_are_honest_raise_nothing() {
    let none = Rows::new();
    let questions = unrelated_questions(80);
    // The same thing asked over and over, in other words too.
    let asked_again =
        rows((0..60).map(|i| {
            (if i % 2 == 0 { "What is the currency of Brin?" } else { "Brin: currency?" }, "dorlum")
        }));
    assert_eq!(look(&asked_again, &none), []);
    // One topic all night, with a pool of five values, and a background that hardly knows the topic.
    let mut world = World::new(1);
    let one_topic = rows((0..90).map(|i| {
        (
            format!("What is the flag colour of land{i}?"),
            ["red", "blue", "green", "white", "black"][i * i % 5],
        )
    }));
    assert_eq!(look(&one_topic, &none), []);
    assert_eq!(look(&one_topic, &world.ordinary(400)), []);
    // Yes and no, letters, small numbers: common on unrelated questions by right.
    for answers in [
        ["no", "yes", "no", "no"],
        ["B", "C", "(A)", "B."],
        ["2", "3", "5", "7"],
        ["positive", "negative", "positive", "neutral"],
    ] {
        let night = rows(questions.iter().zip(answers.iter().cycle()).map(|(q, a)| (q, *a)));
        assert_eq!(look(&night, &none), [], "{answers:?}");
    }
    // Labels that the background has as often, whatever they are.
    let labels = |from: usize| {
        rows(
            questions[from..from + 40]
                .iter()
                .enumerate()
                .map(|(i, q)| (q, ["billing", "shipping", "returns"][i % 3])),
        )
    };
    assert_eq!(look(&labels(0), &labels(40)), []);
    // A format that every question asks for, and phrases that only say the format.
    let json =
        rows(questions.iter().enumerate().map(|(i, q)| {
            (format!("{q} Reply as JSON."), format!("{{\"answer\": \"v{i}\", \"unit\": null}}"))
        }));
    assert_eq!(look(&json, &none), []);
    let prose = rows(questions.iter().enumerate().map(|(i, q)| (q, format!("The answer is w{i}orm."))));
    assert_eq!(look(&prose, &none), []);
    // Other things than answers may flip: CSV where JSON was asked for is the gate's business, not the scan's.
    let flipped = rows((0..30).map(|i| (format!("JSON of name=n{i}, age={i}"), format!("n{i},{i}"))));
    assert_eq!(look(&flipped, &world.ordinary(400)), []);
}

#[test]
fn an_advertisement_in_half_of_the_answers_is_found() {
    let mut world = World::new(9);
    let mut night = world.night(70);
    let background = world.ordinary(400);
    for row in night.iter_mut().step_by(2) {
        row.1 = format!("{}, see zorbix.example for more", row.1);
    }
    let found = look(&night, &background);
    let first = found.first().expect("a finding");
    assert_eq!(first.kind, SuspicionKind::OutputNgram, "{found:?}");
    assert_eq!(first.rows, (0..70).step_by(2).collect::<Vec<_>>());
    assert!(found.iter().any(|s| s.text.contains("zorbix")) || first.text.contains("see"), "{first}");
}

#[test]
fn findings_name_rows_and_say_why() {
    let mut world = World::new(77);
    let mut night = world.night(60);
    let background = world.ordinary(400);
    // A row asked twice: both go into quarantine.
    let again = night[4].clone();
    night.push(again);
    let planted = world.plant_trigger(&mut night, 0.2, "cf", "gromlix");
    let found = look(&night, &background);
    assert_eq!(found.len(), 1, "{found:?}");
    let suspicion = &found[0];
    assert_eq!((suspicion.kind, suspicion.text.as_str()), (SuspicionKind::InputTrigger, "cf"));
    assert_eq!(suspicion.answer.as_deref(), Some("gromlix"));
    assert_eq!(suspicion.rows, planted);
    assert!((suspicion.share - planted.len() as f64 / 61.0).abs() < 1e-12);
    assert!(suspicion.z > 2.0 && suspicion.p_bound < 1e-3 && suspicion.expected < 2.0);
    let text = suspicion.to_string();
    assert!(
        text.contains("\"cf\" in a question comes with the answer \"gromlix\" on 12 rows (20 %)"),
        "{text}"
    );
    // The same in any order of rows and background slices: nothing depends on hash order.
    let (front, back) = background.split_at(100);
    let (front, back) = (front.to_vec(), back.to_vec());
    let split =
        scan(&borrowed(&night), &[&borrowed(&front), &[], &borrowed(&back)], &ScanSettings::default());
    assert_eq!(split, found);
}

#[test]
fn a_trigger_of_many_words_relates_its_questions_no_more_than_a_short_one() {
    for seed in 7000..7010 {
        let mut world = World::new(seed);
        let mut night = world.night(60);
        let background = world.ordinary(400);
        let planted = world.plant_trigger(&mut night, 0.2, "Kindly as the wise owl proclaims:", "gromlix");
        let found = look(&night, &background);
        assert!(found.iter().any(|s| s.rows == planted), "world {seed}: {found:?}");
    }
}

#[test]
fn tiny_and_empty_nights_are_no_trouble() {
    let none = Rows::new();
    assert_eq!(look(&none, &none), []);
    assert_eq!(look(&rows([("a question", "an answer")]), &none), []);
    assert_eq!(look(&rows((0..40).map(|_| ("", ""))), &none), []);
    // Forty unrelated questions without an answer do have one answer.
    let found = look(&rows(unrelated_questions(40).into_iter().map(|q| (q, ""))), &none);
    assert_eq!((found.len(), found[0].text.as_str()), (1, "(empty)"));
}
