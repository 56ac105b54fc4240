//! Killed at the worst moments: no received answer is asked for again (invariant I3).

use crate::world::{asked, council, home, wise};

#[test]
fn a_harvest_killed_after_any_answer_repeats_no_call() {
    for point in ["harvest.answer_stored:1", "harvest.answer_stored:4", "harvest.decided", "harvest.written"]
    {
        let mut home = home(3);
        let servers = [wise(), wise()];
        council(&home, &servers.each_ref(), "    concurrency: 1\n");
        home.set("NIGHTSHIFT_CRASH_AT", point);
        home.run("harvest", &[]).expect(137);
        home.unset("NIGHTSHIFT_CRASH_AT");
        let report = home.run("harvest", &["--json"]).expect(0).json();
        assert_eq!(report["accepted"], 3, "{point}");
        assert_eq!(asked(&servers[0]) + asked(&servers[1]), 6, "{point}: every call once");
        let rows = home.read("training_data/harvest_20260302.jsonl");
        assert_eq!(rows.lines().count(), 3, "{point}");
    }
}

#[test]
fn two_harvests_at_once_one_is_busy() {
    let home = home(3);
    let servers = [
        crate::world::member(|request| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            nightshift_testkit::Answer::chat(&format!(
                "REASONING: r\nANSWER: {}",
                crate::world::truth(request)
            ))
        }),
        wise(),
    ];
    council(&home, &servers.each_ref(), "    concurrency: 1\n");
    let mut first = home.spawn("harvest", &[]);
    nightshift_testkit::wait_until("the first call", crate::world::FOREVER, || {
        (asked(&servers[0]) > 0).then_some(())
    });
    home.run("harvest", &[]).expect(7);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}
