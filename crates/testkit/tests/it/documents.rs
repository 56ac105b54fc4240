//! Pages that are generated from the code. `UPDATE_DOCS=1 cargo test -p nightshift-testkit` writes them.

use nightshift_core::env::{Env, VARIABLES};
use nightshift_core::{Exit, files, metrics};

use crate::edges::root;

fn check(name: &str, expected: &str) {
    let path = root().join("docs").join(name);
    if Env::read().get("UPDATE_DOCS").is_some() {
        files::write_atomic(&path, expected.as_bytes()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is out of date: UPDATE_DOCS=1 cargo test -p nightshift-testkit");
}

#[test]
fn exit_codes() {
    let mut text = "# Exit codes\n\nOne table for every program; codes are only ever added.\n\n| code | status | meaning |\n| --- | --- | --- |\n".to_owned();
    for exit in Exit::ALL {
        text.push_str(&format!("| {} | `{}` | {} |\n", exit.code(), exit.status(), exit.meaning()));
    }
    check("exit-codes.md", &text);
}

#[test]
fn environment() {
    let mut text = "# Environment\n\nFlags win over the environment, the environment over `nightshift.yaml`. `<home>/.env` is read when present and never overrides the environment.\n\n| variable | what it does |\n| --- | --- |\n".to_owned();
    for variable in VARIABLES {
        text.push_str(&format!("| `{}` | {} |\n", variable.name, variable.meaning));
    }
    check("env.md", &text);
}

#[test]
fn metric_names() {
    let mut text = "# Metrics kept in the store\n\nWritten by short-lived programs, shown by `/metrics` of `serve` beside its own.\n\n| metric | kind | meaning |\n| --- | --- | --- |\n".to_owned();
    for metric in metrics::METRICS {
        let kind = if metric.kind == metrics::Kind::Counter { "counter" } else { "gauge" };
        text.push_str(&format!("| `{}` | {kind} | {} |\n", metric.name, metric.help));
    }
    check("metrics.md", &text);
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut pages: Vec<_> =
        std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root().join("README.md"));
    let mut links = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            assert!(
                page.parent().unwrap().join(target).exists(),
                "{}: {target} does not exist",
                page.display()
            );
        }
    }
    assert!(links > 0, "no link was found: the README should have some");
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| I")).collect();
    assert!(rows.len() >= 8, "the table of invariants was not found");
    for row in rows {
        let proofs: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let tests = proofs.iter().filter_map(|name| name.split_once("::")).map(|(krate, module)| {
            let places = ["tests/it", "src"].map(|part| root().join("crates").join(krate).join(part));
            let files = places.map(|folder| folder.join(format!("{module}.rs")));
            let proven = files
                .iter()
                .any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("#[test]")));
            assert!(proven, "{krate}::{module} has no test: {row}");
        });
        let lints = proofs.iter().filter(|name| name.starts_with('.') && root().join(name).exists());
        assert!(tests.count() + lints.count() > 0, "nothing stands behind {row}");
    }
}
