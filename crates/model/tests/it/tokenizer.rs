//! Encoding without added tokens, and streams that never cut a character.

use nightshift_model::{TextStream, Tokenizer};

use crate::fixture::{assert_names, copy_of, edit_json, folder, json, put};

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::new();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(tokenizer, *id).unwrap()).collect();
    pieces.push(stream.finish(tokenizer).unwrap());
    pieces
}

#[test]
fn no_special_token_is_added() {
    // This tokenizer's post-processor would put a BOS first.
    let tokenizer = Tokenizer::from_dir(&folder("llama3")).unwrap();
    let bos = tokenizer.token_id("<|begin_of_text|>").unwrap();
    assert!(!tokenizer.encode("the capital").unwrap().contains(&bos));
    assert_eq!(tokenizer.encode("<|begin_of_text|>the").unwrap()[0], bos);
    assert_eq!(tokenizer.decode(&tokenizer.encode("<|begin_of_text|>Fünf 😀").unwrap()).unwrap(), "Fünf 😀");
}

#[test]
fn truncation_in_the_file_cuts_nothing() {
    let dir = copy_of("qwen3");
    edit_json(dir.path(), "tokenizer.json", |file| {
        file["truncation"] = serde_json::json!({"direction": "Right", "max_length": 4,
            "strategy": "LongestFirst", "stride": 0});
    });
    let text = "What is the capital of Norland? The capital of Norland is Vesk.";
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
}

#[test]
fn a_byte_fallback_tokenizer_encodes_and_decodes_as_in_python() {
    let tokenizer = Tokenizer::from_dir(&folder("bytefallback")).unwrap();
    for row in json("bytefallback/golden.json").as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), row["decoded"].as_str().unwrap());
        assert_eq!(streamed(&tokenizer, &ids).concat(), row["decoded"].as_str().unwrap());
    }
}

#[test]
fn pieces_join_to_the_whole_and_never_hold_half_a_character() {
    for folder_name in ["qwen3", "llama3", "bytefallback"] {
        let tokenizer = Tokenizer::from_dir(&folder(folder_name)).unwrap();
        for text in ["naïve 東京 😀😀 the end", "a  b", "  two spaces", "\n\n\tx", "👩‍👩‍👧 fin"]
        {
            let ids = tokenizer.encode(text).unwrap();
            let pieces = streamed(&tokenizer, &ids);
            assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap(), "{folder_name} {text:?}");
            assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{folder_name} {pieces:?}");
        }
    }
}

#[test]
fn a_character_cut_for_good_comes_out_at_the_end() {
    let tokenizer = Tokenizer::from_dir(&folder("bytefallback")).unwrap();
    let mut ids = tokenizer.encode("ok 😀").unwrap();
    ids.pop();
    let pieces = streamed(&tokenizer, &ids);
    let (last, before) = pieces.split_last().unwrap();
    assert_eq!(before.concat(), "ok ");
    assert!(!last.is_empty() && last.chars().all(|c| c == '\u{FFFD}'), "{last:?}");
}

#[test]
fn special_tokens_are_left_out_of_the_stream_without_eating_spaces() {
    let tokenizer = Tokenizer::from_dir(&folder("qwen3")).unwrap();
    let ids = tokenizer.encode("the<|im_end|> end").unwrap();
    assert_eq!(streamed(&tokenizer, &ids).concat(), "the end");
    assert!(tokenizer.decode_with_special(&ids).unwrap().contains("<|im_end|>"));
}

#[test]
fn a_missing_or_damaged_tokenizer_is_named() {
    let dir = copy_of("mistral");
    let error = Tokenizer::from_dir(dir.path()).unwrap_err();
    assert_names(&error, &["tokenizer.json", "not found", "fast tokenizer"]);
    put(dir.path(), "tokenizer.json", b"{}");
    assert_names(&Tokenizer::from_dir(dir.path()).unwrap_err(), &["tokenizer.json", "not a tokenizer"]);
    put(dir.path(), "tokenizer.json", &[0xff, 0xfe, 0x00]);
    assert_names(&Tokenizer::from_dir(dir.path()).unwrap_err(), &["tokenizer.json", "UTF-8"]);
}
