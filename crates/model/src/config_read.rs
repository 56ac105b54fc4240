//! Reading config.json in both key layouts; see [`crate::config`] for the rules.

use serde_json::Value;

use crate::config::{Family, Llama3Scaling, ModelConfig};
use crate::error::Result;
use crate::json_file::{JsonFile, Nested};

/// Upper bounds that no real model of these families reaches; they keep a hostile config from
/// asking for absurd allocations before any weight has been seen.
const MAX_WIDTH: usize = 1 << 20;
const MAX_LAYERS: usize = 4096;
const MAX_VOCAB: usize = 1 << 24;

/// The config that this object describes.
pub(crate) fn parse(file: &JsonFile) -> Result<ModelConfig> {
    let family = parse_family(file)?;
    refuse_unsupported(file)?;
    let hidden_size = bounded(file, "hidden_size", MAX_WIDTH)?;
    let num_heads = bounded(file, "num_attention_heads", MAX_WIDTH)?;
    let num_layers = bounded(file, "num_hidden_layers", MAX_LAYERS)?;
    let (rope_theta, rope_scaling) = parse_rope(file)?;
    let attention_bias = file.bool("attention_bias")?.unwrap_or(false);
    let own_bias = attention_bias && matches!(family, Family::Llama | Family::Qwen3);
    let config = ModelConfig {
        family,
        hidden_size,
        intermediate_size: bounded(file, "intermediate_size", MAX_WIDTH)?,
        num_layers,
        num_heads,
        num_kv_heads: parse_kv_heads(file, family, num_heads)?,
        head_dim: parse_head_dim(file, family, hidden_size, num_heads)?,
        vocab_size: bounded(file, "vocab_size", MAX_VOCAB)?,
        max_position_embeddings: bounded(file, "max_position_embeddings", usize::MAX >> 16)?,
        rms_norm_eps: file.f64("rms_norm_eps")?.ok_or_else(|| file.missing("rms_norm_eps"))?,
        rope_theta,
        rope_scaling,
        qkv_bias: family == Family::Qwen2 || own_bias,
        o_bias: own_bias,
        mlp_bias: family == Family::Llama && file.bool("mlp_bias")?.unwrap_or(false),
        qk_norm: family == Family::Qwen3,
        sliding_window: parse_windows(file, family, num_layers)?,
        tie_word_embeddings: file.bool("tie_word_embeddings")?.unwrap_or(false),
        bos_token_id: token_ids(file, "bos_token_id")?.first().copied(),
        eos_token_ids: {
            let mut ids = token_ids(file, "eos_token_id")?;
            ids.sort_unstable();
            ids.dedup();
            ids
        },
    };
    if config.rms_norm_eps < 0.0 {
        return Err(file.error("rms_norm_eps", "is negative"));
    }
    Ok(config)
}

fn parse_family(file: &JsonFile) -> Result<Family> {
    let name = file.str("model_type")?.ok_or_else(|| file.missing("model_type"))?;
    Family::from_model_type(name).ok_or_else(|| {
        file.error("model_type", format!("`{name}` is not supported; llama, mistral, qwen2 and qwen3 are"))
    })
}

fn refuse_unsupported(file: &JsonFile) -> Result<()> {
    if let Some(quantised) = file.object("quantization_config")? {
        refuse_other_quantisations(&quantised)?;
    }
    for key in ["num_local_experts", "num_experts"] {
        if file.get(key).is_some() {
            return Err(file.error(key, "mixtures of experts are not supported"));
        }
    }
    match file.str("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(file.error("hidden_act", format!("`{other}` is not supported; silu is"))),
    }
    if file.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
        return Err(file.error("partial_rotary_factor", "only 1.0 is supported"));
    }
    Ok(())
}

/// Of quantised folders only NF4 as bitsandbytes stores it is read. Left out, its kind is FP4.
fn refuse_other_quantisations(quantised: &Nested<'_>) -> Result<()> {
    let refuse = |key: &str, kind: &str| {
        let problem = format!(
            "weights quantised with {kind} are not read; bitsandbytes NF4 is, or use the f32, f16 or bf16 folder"
        );
        Err(quantised.error(key, problem))
    };
    match quantised.str("quant_method")? {
        Some("bitsandbytes") => {}
        method => return refuse("quant_method", &format!("`{}`", method.unwrap_or("unnamed"))),
    }
    if quantised.get("load_in_4bit").and_then(Value::as_bool) != Some(true) {
        return refuse("load_in_4bit", "bitsandbytes LLM.int8()");
    }
    match quantised.str("bnb_4bit_quant_type")?.unwrap_or("fp4") {
        "nf4" => {}
        kind => return refuse("bnb_4bit_quant_type", &format!("bitsandbytes {}", kind.to_uppercase())),
    }
    match quantised.str("bnb_4bit_quant_storage")?.unwrap_or("uint8") {
        "uint8" => Ok(()),
        storage => refuse("bnb_4bit_quant_storage", &format!("bitsandbytes storage `{storage}`")),
    }
}

/// A whole number from 1 to `max`.
fn bounded(file: &JsonFile, key: &str, max: usize) -> Result<usize> {
    match file.required_usize(key)? {
        0 => Err(file.error(key, "is zero")),
        n if n > max => Err(file.error(key, format!("{n} is more than this program handles ({max})"))),
        n => Ok(n),
    }
}

fn parse_kv_heads(file: &JsonFile, family: Family, num_heads: usize) -> Result<usize> {
    const KEY: &str = "num_key_value_heads";
    let absent = match family {
        _ if file.has(KEY) => num_heads,
        Family::Llama => num_heads,
        Family::Mistral => 8,
        Family::Qwen2 | Family::Qwen3 => 32,
    };
    let kv_heads = file.usize(KEY)?.unwrap_or(absent);
    if kv_heads == 0 || !num_heads.is_multiple_of(kv_heads) {
        return Err(file.error(KEY, format!("{kv_heads} does not divide num_attention_heads {num_heads}")));
    }
    Ok(kv_heads)
}

fn parse_head_dim(file: &JsonFile, family: Family, hidden: usize, num_heads: usize) -> Result<usize> {
    const KEY: &str = "head_dim";
    let head_dim = match file.usize(KEY)? {
        Some(explicit) => explicit,
        None if family == Family::Qwen3 => 128,
        None if hidden.is_multiple_of(num_heads) => hidden / num_heads,
        None => {
            let problem = format!("absent, and hidden_size {hidden} is no multiple of {num_heads} heads");
            return Err(file.error(KEY, problem));
        }
    };
    if head_dim == 0 || head_dim % 2 == 1 || head_dim > MAX_WIDTH / num_heads.max(1) {
        return Err(file.error(KEY, format!("{head_dim} is not a usable even head width")));
    }
    Ok(head_dim)
}

/// Rope base and scaling from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`.
fn parse_rope(file: &JsonFile) -> Result<(f64, Option<Llama3Scaling>)> {
    let (new, old) = (file.object("rope_parameters")?, file.object("rope_scaling")?);
    if new.is_some() && old.is_some() && file.get("rope_parameters") != file.get("rope_scaling") {
        return Err(file.error("rope_scaling", "disagrees with rope_parameters; keep one of them"));
    }
    let Some(rope) = new.or(old) else {
        return Ok((positive(file, "rope_theta", file.f64("rope_theta")?.unwrap_or(10_000.0))?, None));
    };
    if rope.has_objects() {
        return Err(rope.error("*", "rope parameters per layer type are not supported"));
    }
    let inner = rope.f64("rope_theta")?;
    let theta = match (inner, file.f64("rope_theta")?) {
        (Some(a), Some(b)) if a != b => {
            return Err(rope.error("rope_theta", format!("{a} disagrees with rope_theta {b}")));
        }
        (a, b) => positive(file, "rope_theta", a.or(b).unwrap_or(10_000.0))?,
    };
    if rope.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
        return Err(rope.error("partial_rotary_factor", "only 1.0 is supported"));
    }
    // Very old files say `type`.
    let kind = match rope.str("rope_type")? {
        Some(kind) => Some(kind),
        None => rope.str("type")?,
    };
    match kind {
        Some("default") => Ok((theta, None)),
        None if old_without_type(&rope) => Ok((theta, None)),
        Some("llama3") => {
            let scaling = Llama3Scaling {
                factor: rope.required_f64("factor")?,
                low_freq_factor: rope.required_f64("low_freq_factor")?,
                high_freq_factor: rope.required_f64("high_freq_factor")?,
                original_max_position_embeddings: rope
                    .usize("original_max_position_embeddings")?
                    .ok_or_else(|| rope.error("original_max_position_embeddings", "missing"))?,
            };
            if !(scaling.factor >= 1.0
                && scaling.low_freq_factor > 0.0
                && scaling.high_freq_factor > scaling.low_freq_factor
                && scaling.original_max_position_embeddings > 0)
            {
                return Err(
                    rope.error("factor", "needs factor >= 1 and 0 < low_freq_factor < high_freq_factor")
                );
            }
            Ok((theta, Some(scaling)))
        }
        Some(other) => {
            Err(rope.error("rope_type", format!("`{other}` is not supported; default and llama3 are")))
        }
        None => Err(rope.error("rope_type", "missing")),
    }
}

/// An object that only carries the base is the default rope.
fn old_without_type(rope: &Nested<'_>) -> bool {
    rope.get("factor").is_none()
}

fn positive(file: &JsonFile, key: &str, value: f64) -> Result<f64> {
    if value > 0.0 { Ok(value) } else { Err(file.error(key, format!("{value} is not positive"))) }
}

fn parse_windows(file: &JsonFile, family: Family, num_layers: usize) -> Result<Vec<Option<usize>>> {
    const KEY: &str = "sliding_window";
    let written = || match file.usize(KEY)? {
        Some(0) => Err(file.error(KEY, "is zero")),
        // The default of the transformers classes, used only when the key is absent altogether.
        None if !file.has(KEY) => Ok(Some(4096)),
        window => Ok(window),
    };
    let layer_types = parse_layer_types(file, num_layers)?;
    match family {
        Family::Llama => Ok(vec![None; num_layers]),
        Family::Mistral => {
            if layer_types.is_some_and(|types| types.windows(2).any(|pair| pair[0] != pair[1])) {
                return Err(file.error("layer_types", "mixed attention is not part of the mistral family"));
            }
            Ok(vec![written()?; num_layers])
        }
        Family::Qwen2 | Family::Qwen3 => {
            if !file.bool("use_sliding_window")?.unwrap_or(false) {
                return Ok(vec![None; num_layers]);
            }
            let window = written()?;
            let full_below = file.usize("max_window_layers")?.unwrap_or(28);
            let sliding = |layer: usize| match &layer_types {
                Some(types) => types[layer],
                None => layer >= full_below,
            };
            Ok((0..num_layers).map(|layer| window.filter(|_| sliding(layer))).collect())
        }
    }
}

/// Per layer, whether its attention slides.
fn parse_layer_types(file: &JsonFile, num_layers: usize) -> Result<Option<Vec<bool>>> {
    const KEY: &str = "layer_types";
    let Some(value) = file.get(KEY) else { return Ok(None) };
    let list = value.as_array().ok_or_else(|| file.wrong(KEY, "a list", value))?;
    if list.len() != num_layers {
        return Err(file.error(KEY, format!("{} entries for {num_layers} layers", list.len())));
    }
    let one = |entry: &Value| match entry.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(file.wrong(KEY, "full_attention or sliding_attention", entry)),
    };
    list.iter().map(one).collect::<Result<_>>().map(Some)
}

/// Zero, one or several token ids under `key`.
pub(crate) fn token_ids(file: &JsonFile, key: &str) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| file.wrong(key, "a token id", value))
    };
    match file.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(value) => one(value).map(|id| vec![id]),
    }
}
