//! Releases and folders that are not what they should be.

use nightshift_core::{files, release};

use crate::world::World;

#[test]
fn a_changed_release_is_refused() {
    let world = World::new("");
    let id = world.publish("x");
    world.home.write(&format!("loras/{id}/{}", release::ADAPTER_MODEL), "other bytes");
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("differs from its manifest"), "{}", ran.stderr);
    assert!(world.deployments().is_empty());
}

#[test]
fn a_release_replaced_together_with_its_manifest_is_refused() {
    let world = World::new("");
    let (first, second) = (world.publish("first"), world.publish("second"));
    let loras = world.home.path().join("loras");
    let manifest = world.home.read(&format!("loras/{second}/manifest.json")).replace(&second, &first);
    files::write_atomic(&loras.join(&first).join(release::ADAPTER_MODEL), b"second").unwrap();
    files::write_atomic(&loras.join(&first).join("manifest.json"), manifest.as_bytes()).unwrap();
    let ran = world.deploy(&[&first]).expect(4);
    assert!(ran.stderr.contains("differs from the store's"), "{}", ran.stderr);
}

#[test]
fn a_manifest_that_reaches_outside_is_refused() {
    let world = World::new("");
    let id = world.publish("x");
    let manifest = world.home.read(&format!("loras/{id}/manifest.json"));
    let secret = world.home.write("secret", "{}");
    let sha = nightshift_core::random::sha256_hex(b"{}");
    let hostile = manifest.replacen(
        "\"files\": {",
        &format!("\"files\": {{\n    \"{}\": \"{sha}\",", secret.display()),
        1,
    );
    world.home.write(&format!("loras/{id}/manifest.json"), &hostile);
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("is not a plain file name"), "{}", ran.stderr);
}

#[test]
fn another_base_or_an_adapter_the_server_refuses() {
    let world = World::new("");
    world.publish_for("x", "some other base");
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("another base model"), "{}", ran.stderr);
    world.publish("not finite");
    world.script().load = Some((422, "lora_A of layer 3 holds NaN".into()));
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("lora_A of layer 3 holds NaN"), "{}", ran.stderr);
    assert_eq!(world.pointer().generation, 0);
    assert!(world.deployments().iter().all(|row| row.state == "refused"));
    world.assert_consistent();
}

#[test]
fn a_folder_that_is_no_release_of_this_home_is_refused() {
    let world = World::new("");
    let id = world.publish("x");
    let elsewhere = world.home.path().join("elsewhere");
    files::create_dir(&elsewhere).unwrap();
    for file in files::list(&world.home.path().join("loras").join(&id)).unwrap() {
        files::copy(&file, &elsewhere.join(file.file_name().unwrap())).unwrap();
    }
    world.deploy(&[&elsewhere.display().to_string()]).expect(4);
    files::remove_file(&elsewhere.join("manifest.json")).unwrap();
    world.deploy(&[&elsewhere.display().to_string()]).expect(4);
}

#[test]
fn links_that_cannot_be_written_stop_a_deployment_before_it_begins() {
    let world = World::new("");
    world.publish("x");
    // Nobody, not even root, can make a file there.
    files::create_symlink("/proc/self/fdinfo".as_ref(), &world.home.path().join("loras/live")).unwrap();
    let ran = world.deploy(&[]).expect(1);
    assert!(ran.stderr.contains("loras/live"), "{}", ran.stderr);
    assert_eq!(world.pointer().generation, 0);
    files::remove_file(&world.home.path().join("loras/live")).unwrap();
    files::create_dir(&world.home.path().join("loras/current")).unwrap();
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("is not a link"), "{}", ran.stderr);
    files::remove_dir(&world.home.path().join("loras/current")).unwrap();
    files::create_symlink("nowhere".as_ref(), &world.home.path().join("loras/current")).unwrap();
    world.deploy(&["--watch-s", "0"]).expect(0);
    world.assert_consistent();
}

#[test]
fn a_banned_release_needs_force_and_force_lifts_the_ban_only_for_good_ones() {
    let world = World::new("");
    let id = world.publish("x");
    world.home.store().write(|tx| release::mark(tx, &id, "bad", Some("it lied"))).unwrap();
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("banned: it lied"), "{}", ran.stderr);
    world.deploy(&["--force", "--watch-s", "0"]).expect(0);
    assert_eq!(world.release_status(&id), "good");
    world.assert_consistent();
}
