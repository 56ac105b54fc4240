//! Scripts of prompt and answer.

use nightshift_verify::language::{ScriptMatch, compare, dominant_script};

#[test]
fn scripts_are_told_apart_and_languages_are_not() {
    assert_eq!(
        compare("What is this?", "Das ist ein Haus."),
        ScriptMatch::Same { script: "Latin".to_owned() }
    );
    assert_eq!(
        compare("What is this?", "Это дом."),
        ScriptMatch::Different { prompt: "Latin".to_owned(), answer: "Cyrillic".to_owned() }
    );
    assert_eq!(
        compare("これは何ですか", "房子是红色的"),
        ScriptMatch::Same { script: "East Asian".to_owned() }
    );
    assert_eq!(dominant_script("γειά σου κόσμε"), Some("Greek"));
}

#[test]
fn too_little_text_says_nothing() {
    assert_eq!(compare("What is 2 + 2?", "4"), ScriptMatch::Unknown);
    assert_eq!(compare("", ""), ScriptMatch::Unknown);
    // Half and half is nobody's script; code does not count.
    assert_eq!(dominant_script("abcd абвг"), None);
    assert_eq!(
        dominant_script("Вот код:\n```\nlet answer_to_everything = compute();\n```\n"),
        Some("Cyrillic")
    );
}
