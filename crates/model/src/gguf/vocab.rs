//! A byte-level BPE tokenizer (Llama 3, Qwen, GPT-2, Mistral's tekken) as llama.cpp keeps it.
//!
//! llama.cpp has no general pre-tokenizer: it knows the split rules of certain models by name. Only
//! rules found in the table below are exported; anything else would silently cut text into other
//! tokens and is refused.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::chat;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gguf::base::unsupported;
use crate::gguf::file::{GgufValue, Layout};
use crate::json_file::JsonFile;
use crate::tokenizer::{TOKENIZER_FILE, TokenizerSettings};

/// Split rules of tokenizer.json and llama.cpp's names for them (`llama_vocab::impl::load`).
const SPLITS: [(&str, &str); 3] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "tekken",
    ),
];

/// `enum llama_token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Adds the vocabulary of the model folder; the number of its tokens.
pub(crate) fn describe(layout: &mut Layout, dir: &Path, config: &ModelConfig) -> Result<usize> {
    let path = dir.join(TOKENIZER_FILE);
    let file =
        JsonFile::read(&path, "the vocabulary is read from it; leave the vocabulary out to go without")?;
    let model = file.get("model").cloned().unwrap_or_default();
    if model["type"] != "BPE" || model["byte_fallback"] == true {
        return Err(unsupported(&path, "the model is no byte-level BPE"));
    }
    let pre = split_rule(&file)
        .ok_or_else(|| unsupported(&path, "the pre-tokenizer is none that llama.cpp knows"))?;
    let normalizer =
        file.get("normalizer").map_or("none", |value| value["type"].as_str().unwrap_or("unnamed"));
    if !["none", "NFC"].contains(&normalizer) {
        return Err(unsupported(&path, &format!("the normalizer `{normalizer}` is not there in llama.cpp")));
    }
    let (tokens, types) = tokens(&file, &model, &path, config.vocab_size)?;
    let merges = merges(&model).ok_or_else(|| unsupported(&path, "the merges are damaged"))?;
    layout.text("tokenizer.ggml.model", "gpt2");
    layout.text("tokenizer.ggml.pre", pre);
    let count = tokens.len();
    layout.set("tokenizer.ggml.tokens", GgufValue::Array(tokens.into_iter().map(GgufValue::Text).collect()));
    layout
        .set("tokenizer.ggml.token_type", GgufValue::Array(types.into_iter().map(GgufValue::I32).collect()));
    layout.set("tokenizer.ggml.merges", GgufValue::Array(merges.into_iter().map(GgufValue::Text).collect()));
    if let Some(bos) = config.bos_token_id {
        layout.count("tokenizer.ggml.bos_token_id", bos as usize);
    }
    special_tokens(layout, &file, dir, config)?;
    layout.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(adds_bos(&file, config.bos_token_id)));
    if let Some(source) = chat::source(dir)? {
        layout.text("tokenizer.chat_template", source);
    }
    Ok(count)
}

/// The end tokens: the one of tokenizer_config.json first, which ends a turn.
fn special_tokens(layout: &mut Layout, file: &JsonFile, dir: &Path, config: &ModelConfig) -> Result<()> {
    let id_of = |text: &str| {
        added(file).into_iter().find(|token| token["content"] == text).and_then(|token| token["id"].as_u64())
    };
    let settings = TokenizerSettings::read(dir)?;
    let special = |key: &str| settings.as_ref().and_then(|settings| settings.special(key)).and_then(id_of);
    let end = special("eos_token").or_else(|| config.eos_token_ids.first().map(|id| u64::from(*id)));
    if let Some(end) = end {
        layout.count("tokenizer.ggml.eos_token_id", end as usize);
        // llama.cpp stops at this one too.
        if let Some(other) = config.eos_token_ids.iter().find(|id| u64::from(**id) != end) {
            layout.count("tokenizer.ggml.eot_token_id", *other as usize);
        }
    }
    if let Some(pad) = special("pad_token") {
        layout.count("tokenizer.ggml.padding_token_id", pad as usize);
    }
    Ok(())
}

/// llama.cpp's name of the split rule.
fn split_rule(file: &JsonFile) -> Option<&'static str> {
    let rule = file.get("pre_tokenizer")?;
    let byte_level = |rule: &Value, regex: bool| {
        rule["type"] == "ByteLevel"
            && rule["add_prefix_space"] == false
            && (rule["use_regex"] != false) == regex
    };
    if byte_level(rule, true) {
        return Some("gpt-2");
    }
    let [split, bytes] = rule["pretokenizers"].as_array()?.as_slice() else { return None };
    let isolated = split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false;
    let pattern = split["pattern"]["Regex"].as_str()?;
    let known = SPLITS.iter().find(|(known, _)| *known == pattern).map(|(_, name)| *name);
    known.filter(|_| isolated && byte_level(bytes, false))
}

fn added(file: &JsonFile) -> Vec<&Value> {
    file.get("added_tokens").and_then(Value::as_array).into_iter().flatten().collect()
}

/// Every token by its id, and what it is; ids that the tokenizer does not use are filled up.
fn tokens(file: &JsonFile, model: &Value, path: &Path, size: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let mut by_id: BTreeMap<u64, (String, i32)> = BTreeMap::new();
    for (text, id) in model["vocab"].as_object().into_iter().flatten() {
        by_id.insert(id.as_u64().unwrap_or(u64::MAX), (text.clone(), NORMAL));
    }
    for token in added(file) {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        let text = token["content"].as_str().unwrap_or_default().to_owned();
        by_id.insert(token["id"].as_u64().unwrap_or(u64::MAX), (text, kind));
    }
    if by_id.is_empty() {
        return Err(unsupported(path, "the vocabulary is empty"));
    }
    if by_id.keys().next_back().is_some_and(|id| *id >= size as u64) {
        return Err(unsupported(path, &format!("a token has an id beyond the model's {size} rows")));
    }
    let entry = |id: u64| by_id.remove(&id).unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
    Ok((0..size as u64).map(entry).unzip())
}

/// Pairs as `a b`; older files write them so, newer ones as two strings.
fn merges(model: &Value) -> Option<Vec<String>> {
    let pair = |merge: &Value| match merge {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(a), Value::String(b)] if !a.contains(' ') && !b.contains(' ') => {
                Some(format!("{a} {b}"))
            }
            _ => None,
        },
        _ => None,
    };
    model["merges"].as_array()?.iter().map(pair).collect()
}

/// Whether encoding plain text puts the beginning-of-sequence token in front.
fn adds_bos(file: &JsonFile, bos: Option<u32>) -> bool {
    let processor = file.get("post_processor").cloned().unwrap_or_default();
    let parts = match &processor["processors"] {
        Value::Array(list) => list.clone(),
        _ => vec![processor],
    };
    let first = parts.iter().find_map(|part| part["single"][0]["SpecialToken"]["id"].as_str());
    let id = first.and_then(|text| added(file).into_iter().find(|token| token["content"] == text));
    id.and_then(|token| token["id"].as_u64()).is_some_and(|id| bos.is_some_and(|bos| u64::from(bos) == id))
}
