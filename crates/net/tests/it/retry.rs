use std::cell::{Cell, RefCell};
use std::time::Duration;

use nightshift_net::NetError;
use nightshift_net::RetryAfter;
use nightshift_net::retry::{Breaker, Done, GaveUp, Pace, Policy, Reason, Verdict};

use crate::client::{client, question};
use crate::fake::{Fake, Script, json, response};

const NOW: &str = "2026-01-01T00:00:00Z";

fn status(code: u16, retry_after: Option<RetryAfter>) -> NetError {
    NetError::Status { peer: "p".into(), code, retry_after, body_excerpt: "b".into() }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A world where sleeping takes no time and each attempt takes `cost`.
struct World {
    clock: Cell<Duration>,
    slept: RefCell<Vec<Duration>>,
    deadline: Option<Duration>,
    uniform: f64,
    stop_while_sleeping: bool,
}

impl World {
    fn new(deadline: Option<f64>, uniform: f64) -> Self {
        Self {
            clock: Cell::new(Duration::ZERO),
            slept: RefCell::default(),
            deadline: deadline.map(secs),
            uniform,
            stop_while_sleeping: false,
        }
    }

    fn run<T>(
        &self,
        policy: Policy,
        mut once: impl FnMut(u32) -> Result<T, NetError>,
    ) -> Result<Done<T>, GaveUp> {
        let mut pace = Pace {
            elapsed: &|| self.clock.get(),
            now: &|| NOW.parse().unwrap(),
            sleep: &mut |wait| {
                self.slept.borrow_mut().push(wait);
                self.clock.set(self.clock.get() + wait);
                !self.stop_while_sleeping
            },
            uniform: &mut || self.uniform,
            deadline: self.deadline,
        };
        policy.run(&mut pace, |attempt| once(attempt.number))
    }
}

#[test]
fn waits_double_up_to_the_cap() {
    let world = World::new(None, 0.5);
    let policy = Policy { attempts: 8, ..Policy::default() };
    let gave_up = world.run::<()>(policy, |_| Err(status(500, None))).unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.reason), (8, Reason::Exhausted));
    let waits: Vec<f64> = world.slept.borrow().iter().map(Duration::as_secs_f64).collect();
    assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
}

#[test]
fn jitter_is_full() {
    let policy = Policy::default();
    let wait = |uniform| policy.judge(3, &status(500, None), None, NOW.parse().unwrap(), uniform);
    assert_eq!(wait(0.0), Verdict::Wait(Duration::ZERO));
    assert_eq!(wait(0.999), Verdict::Wait(secs(3.996)));
    assert_eq!(wait(f64::NAN), wait(0.0), "a broken generator does no harm");
}

#[test]
fn only_transient_errors_are_repeated() {
    for code in [400, 401, 403, 404, 409, 413, 422] {
        let gave_up =
            World::new(None, 0.5).run::<()>(Policy::default(), |_| Err(status(code, None))).unwrap_err();
        assert_eq!((gave_up.attempts, gave_up.reason), (1, Reason::Permanent), "{code}");
        assert_eq!(gave_up.error.status(), Some(code));
    }
}

#[test]
fn retry_after_is_a_lower_bound() {
    for asked in [RetryAfter::In(secs(40.0)), RetryAfter::At("2026-01-01T00:00:40Z".parse().unwrap())] {
        for uniform in [0.0, 0.9] {
            let world = World::new(None, uniform);
            let done = world
                .run(
                    Policy::default(),
                    |number| if number == 1 { Err(status(429, Some(asked))) } else { Ok(7) },
                )
                .unwrap();
            assert_eq!((done.value, done.attempts), (7, 2));
            assert_eq!(*world.slept.borrow(), [secs(40.0 + uniform)], "over the cap, since the server asked");
        }
    }
    let year = RetryAfter::In(secs(3e7));
    let gave_up =
        World::new(None, 0.5).run::<()>(Policy::default(), |_| Err(status(429, Some(year)))).unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.reason), (1, Reason::TooPatient));
}

#[test]
fn nothing_waits_beyond_the_deadline() {
    let world = World::new(Some(10.0), 0.5);
    let gave_up = world
        .run::<()>(Policy::default(), |_| {
            world.clock.set(world.clock.get() + secs(4.5));
            Err(status(503, None))
        })
        .unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.reason), (2, Reason::Deadline));
    assert_eq!(gave_up.error.status(), Some(503), "the last error is kept");
    assert!(world.clock.get() < secs(10.0));

    let world = World::new(Some(0.0), 0.5);
    let gave_up = world.run::<()>(Policy::default(), |_| unreachable!("no time to begin")).unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.error), (0, NetError::Deadline));

    let asked = RetryAfter::In(secs(20.0));
    let gave_up = World::new(Some(10.0), 0.0)
        .run::<()>(Policy::default(), |_| Err(status(429, Some(asked))))
        .unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.reason), (1, Reason::Deadline));
}

#[test]
fn a_stop_ends_the_waiting() {
    let world = World { stop_while_sleeping: true, ..World::new(None, 0.5) };
    let gave_up = world.run::<()>(Policy::default(), |_| Err(status(500, None))).unwrap_err();
    assert_eq!((gave_up.attempts, gave_up.reason, gave_up.error), (1, Reason::Stopped, NetError::Cancelled));
}

#[test]
fn a_real_server_recovers() {
    let answer = r#"{"choices":[{"message":{"role":"assistant","content":"4"}}]}"#;
    let server = Fake::new(vec![
        Script::Reset,
        Script::Say(response("429 Too Many Requests\r\nretry-after: 2", "")),
        Script::Say(response("500 no", "")),
        Script::Say(json(answer)),
    ]);
    let client = client(&server.url());
    let world = World::new(Some(60.0), 0.25);
    let done = world.run(Policy::default(), |_| client.chat(&question())).unwrap();
    assert_eq!((done.attempts, done.value.body.text()), (4, Some("4")));
    assert_eq!(*world.slept.borrow(), [secs(0.25), secs(2.25), secs(1.0)]);
}

#[test]
fn three_failures_in_a_row_open_the_breaker() {
    let failed: Result<(), GaveUp> =
        Err(GaveUp { error: status(500, None), attempts: 4, reason: Reason::Exhausted });
    let stopped: Result<(), GaveUp> =
        Err(GaveUp { error: NetError::Cancelled, attempts: 1, reason: Reason::Stopped });
    let breaker = Breaker::default();
    for outcome in [&failed, &failed, &Ok(()), &failed, &stopped, &failed] {
        assert!(!breaker.record(outcome));
        assert!(!breaker.is_open());
    }
    assert!(breaker.record(&failed), "the third in a row opens it");
    assert!(breaker.is_open());
    assert!(!breaker.record(&failed), "it opens once");
    assert!(!breaker.record(&Ok(())));
    assert!(breaker.is_open(), "and stays open for the run");
}
