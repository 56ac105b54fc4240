//! SIGKILL at every named instant: the next run finishes or undoes, once, whoever makes it.

use nightshift_core::pointer;

use crate::world::{Live, World};

const POINTS: [&str; 5] =
    ["deploy.gated", "deploy.pointer_moved", "deploy.link_moved", "deploy.watched", "deploy.reverting"];

/// A world in which a deployment was killed at the point.
fn killed_at(point: &str) -> (World, String, String) {
    let mut world = World::new("");
    let incumbent = world.incumbent();
    world.traffic((0..100).map(|_| Live::default()));
    world.script().right = |_| true;
    let candidate = world.publish("the candidate");
    world.home.set("NIGHTSHIFT_CRASH_AT", point);
    let bad = point == "deploy.reverting";
    let row = move |_, new: bool| Live { ok: !(new && bad), ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&[]));
    ran.expect(137);
    world.home.unset("NIGHTSHIFT_CRASH_AT");
    (world, incumbent, candidate)
}

#[test]
fn recover_restores_the_old_state_once() {
    for point in POINTS {
        let (world, incumbent, candidate) = killed_at(point);
        assert_eq!(world.deployments().iter().filter(|row| row.ended_at.is_none()).count(), 1, "{point}");
        assert_eq!(world.problems(false), [""; 0], "{point}: the old state or the new one, even now");
        assert!(!world.problems(true).is_empty(), "{point}: something is left to finish");
        let told = world.deploy(&["--recover", "--dry-run"]).expect(0).json();
        assert!(!told["would_recover"].as_array().unwrap().is_empty(), "{point}");
        world.deploy(&["--recover"]).expect(0);
        assert_eq!(world.effective().as_deref(), Some(incumbent.as_str()), "{point}");
        world.assert_consistent();
        let (once, rows) = (world.pointer(), world.deployments());
        let again = world.deploy(&["--recover"]).expect(0).json();
        assert_eq!(again["recovered"].as_array().unwrap().len(), 0, "{point}");
        assert_eq!((world.pointer(), world.deployments()), (once, rows), "{point}: twice is once");
        let status = world.deploy(&["--status"]).expect(0).json();
        assert_eq!(status["status"], "consistent", "{status:#}");
        if point == "deploy.reverting" {
            assert_eq!(world.release_status(&candidate), "bad", "the verdict survives");
            assert_eq!(world.summary(3, "rollback_summary.json")["failed_deployment"], candidate.as_str());
            assert_eq!(world.deployments()[0].state, "rolled_back");
        } else {
            assert_eq!(world.release_status(&candidate), "new", "{point}: a crash is not its fault");
            assert_eq!(world.deployments()[0].state, "abandoned");
        }
    }
}

#[test]
fn the_next_deployment_recovers_by_itself() {
    for point in ["deploy.gated", "deploy.link_moved"] {
        let (world, _, candidate) = killed_at(point);
        let report = world.deploy(&["--watch-s", "0"]).expect(0).json();
        assert_eq!(report["status"], "deployed", "{point}");
        assert_eq!(world.effective(), Some(candidate));
        world.assert_consistent();
    }
}

#[test]
fn a_projection_that_was_damaged_is_repaired() {
    let world = World::new("");
    let id = world.incumbent();
    let current = world.home.path().join("loras/current");
    nightshift_core::files::replace_symlink("elsewhere".as_ref(), &current).unwrap();
    nightshift_core::files::remove_dir(&world.home.path().join("loras/live/1")).unwrap();
    let status = world.deploy(&["--status"]).expect(0).json();
    assert_eq!(status["status"], "inconsistent");
    world.deploy(&["--recover"]).expect(0);
    world.assert_consistent();
    assert_eq!(world.effective(), Some(id));
    assert_eq!(world.summary(1, "deployment_summary.json")["deployment_status"], "deployed", "written again");
    assert_eq!(pointer::history(world.home.store().read(), "nightshift").unwrap().len(), 1);
}
