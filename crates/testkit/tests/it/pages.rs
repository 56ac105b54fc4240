//! The page of each program against its `--help`: no flag is missing, none is invented.

use std::collections::BTreeSet;
use std::process::Command;

use nightshift_testkit::binary;

use crate::edges::root;

/// The programs with a page of their own.
const PROGRAMS: [&str; 8] =
    ["memory", "harvest", "train-lora", "serve", "deploy", "rollback", "nightly", "synergy-weights"];

fn help(program: &str, words: &[&str]) -> String {
    let output = Command::new(binary(program)).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{program} {words:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// Subcommands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

/// `--long` flags in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let named = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    named
        .filter(|word| word.len() > 3 && word.starts_with("--") && !word.starts_with("---"))
        .map(str::to_owned)
        .collect()
}

/// Flags of a program and its subcommands, as lines of their help begin with them.
fn flags_of(program: &str, words: &[&str]) -> BTreeSet<String> {
    let text = help(program, words);
    let own = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let mut found: BTreeSet<String> = own.flat_map(|line| flags(line.split("  ").next().unwrap())).collect();
    for command in commands(&text) {
        found.extend(flags_of(program, &[words, &[command]].concat()));
    }
    found
}

/// Flags of vLLM, llama.cpp, cargo and TensorBoard that our pages speak of.
const FOREIGN: [&str; 8] = [
    "--logdir",
    "--enable-lora",
    "--max-lora-rank",
    "--lora-modules",
    "--lora",
    "--example",
    "--release",
    "--features",
];

/// Second names of a program's flags: a page may use them.
fn aliases_of(program: &str) -> BTreeSet<String> {
    let text = help(program, &[]);
    let listed = text.split("[alias").skip(1).map(|rest| rest.split(']').next().unwrap());
    listed.flat_map(flags).collect()
}

#[test]
fn every_flag_of_a_program_is_on_its_page_and_no_other() {
    let global: BTreeSet<String> = [
        "--home",
        "--config",
        "--json",
        "--dry-run",
        "--seed",
        "--quiet",
        "--verbose",
        "--log-format",
        "--no-progress",
        "--help",
        "--version",
    ]
    .map(str::to_owned)
    .into();
    let known: BTreeSet<String> = PROGRAMS.iter().flat_map(|program| flags_of(program, &[])).collect();
    let mut others: BTreeSet<String> = PROGRAMS.iter().flat_map(|program| aliases_of(program)).collect();
    others.extend(FOREIGN.map(str::to_owned));
    assert!(global.is_subset(&known), "{:?} are gone", global.difference(&known));
    let mut wrong = Vec::new();
    for program in PROGRAMS {
        let page = std::fs::read_to_string(root().join(format!("docs/{program}.md"))).unwrap();
        let named = flags(&page);
        let own: BTreeSet<String> = flags_of(program, &[]).difference(&global).cloned().collect();
        wrong.extend(own.difference(&named).map(|flag| format!("docs/{program}.md lacks {flag}")));
        wrong.extend(
            named
                .difference(&known)
                .filter(|flag| !others.contains(*flag))
                .map(|flag| format!("docs/{program}.md invents {flag}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
