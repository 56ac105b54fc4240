//! Links and releases that are not what they should be.

use nightshift_core::{files, release};

use crate::world::World;

#[test]
fn a_link_that_leads_nowhere_or_elsewhere_is_repaired() {
    for target in ["nowhere", "/tmp", "live/1"] {
        let world = World::new();
        let [a, _] = world.history(["a", "b"]);
        files::replace_symlink(target.as_ref(), &world.home.path().join("loras/current")).unwrap();
        let report = world.rollback(&[]).expect(0).json();
        assert!(report["link_repaired"].as_str().unwrap().contains(target), "{report:#}");
        assert_eq!(world.live(), Some(a));
        world.assert_consistent();
    }
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    files::remove_file(&world.home.path().join("loras/current")).unwrap();
    files::remove_dir(&world.home.path().join("loras/live")).unwrap();
    world.rollback(&[]).expect(0);
    assert_eq!(world.live(), Some(a));
    world.assert_consistent();
}

#[test]
fn a_folder_in_place_of_the_link_is_refused() {
    let world = World::new();
    let [_, b] = world.history(["a", "b"]);
    let current = world.home.path().join("loras/current");
    files::remove_file(&current).unwrap();
    files::create_dir(&current).unwrap();
    let entries = world.entries();
    let ran = world.rollback(&[]).expect(4);
    assert!(ran.stderr.contains("is not a link"), "{}", ran.stderr);
    assert_eq!((world.live(), world.entries()), (Some(b), entries));
}

#[test]
fn links_that_cannot_be_written_change_nothing() {
    let world = World::new();
    let [_, b] = world.history(["a", "b"]);
    let live = world.home.path().join("loras/live");
    files::rename(&live, &world.home.path().join("moved")).unwrap();
    // Nobody, not even root, can make a file there.
    files::create_symlink("/proc/self/fdinfo".as_ref(), &live).unwrap();
    let entries = world.entries();
    let ran = world.rollback(&[]).expect(1);
    assert!(ran.stderr.contains("loras/live"), "{}", ran.stderr);
    assert_eq!((world.live(), world.entries(), world.status(&b).as_str()), (Some(b.clone()), entries, "new"));
    files::remove_file(&live).unwrap();
    files::rename(&world.home.path().join("moved"), &live).unwrap();
    world.assert_consistent();
}

#[test]
fn a_damaged_release_is_passed_over() {
    let world = World::new();
    let [a, b, _] = world.history(["a", "b", "c"]);
    world.home.write(&format!("loras/{b}/{}", release::ADAPTER_MODEL), "half of it");
    assert_eq!(world.rollback(&["--keep"]).expect(0).json()["to"], a.as_str());
    let ran = world.rollback(&["--to", &b]).expect(4);
    assert!(ran.stderr.contains("differs from its manifest"), "{}", ran.stderr);
}

#[test]
fn a_store_that_counts_its_generations_anew_gets_its_own_folders() {
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    // A folder of a later generation from before the store was restored from a backup.
    let stale = world.home.path().join("loras/live/3");
    files::create_dir(&stale).unwrap();
    files::write_atomic(&stale.join("pointer.json"), b"{\"generation\": 3, \"adapter_id\": \"another\"}")
        .unwrap();
    world.rollback(&[]).expect(0);
    assert_eq!(world.live(), Some(a));
    let manifest = world.home.read("loras/current/manifest.json");
    assert!(manifest.contains(&world.live().unwrap()));
}
