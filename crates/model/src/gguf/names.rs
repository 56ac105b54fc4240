//! What llama.cpp calls a tensor, and the order in which it wants the rows of Q and K.

use crate::config::{Family, ModelConfig};
use crate::lora::Target;

/// `general.architecture`: Mistral is computed as a Llama there.
pub(crate) const fn architecture(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    }
}

/// `blk.N.<this>` for a projection.
pub(crate) const fn projection(target: Target) -> &'static str {
    match target {
        Target::Q => "attn_q",
        Target::K => "attn_k",
        Target::V => "attn_v",
        Target::O => "attn_output",
        Target::Gate => "ffn_gate",
        Target::Up => "ffn_up",
        Target::Down => "ffn_down",
    }
}

/// How many heads' rows must be reordered in this projection, if any: llama.cpp rotates neighbouring
/// pairs in its arch llama, the Hugging Face files rotate halves.
pub(crate) fn permuted_heads(config: &ModelConfig, target: Target) -> Option<usize> {
    if architecture(config.family) != "llama" {
        return None;
    }
    match target {
        Target::Q => Some(config.num_heads),
        Target::K => Some(config.num_kv_heads),
        _ => None,
    }
}

/// Rows of Q or K (or their LoRA B, or their bias) in llama.cpp's order: the rows of each head seen
/// as `[2, d/2]`, transposed. `width` is the length of a row.
pub(crate) fn permute_rows(values: &[f32], heads: usize, width: usize) -> Vec<f32> {
    let head_dim = values.len() / width / heads;
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..head_dim {
            let from = head * head_dim + (row % 2) * half + row / 2;
            out.extend_from_slice(&values[from * width..][..width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::permute_rows;

    #[test]
    fn halves_become_neighbouring_pairs() {
        // One head of 16 rows: old rows 0, 8, 1, 9, 2, 10 … as llama.cpp's converter orders them.
        let rows: Vec<f32> = (0..16).map(|row| row as f32).collect();
        assert_eq!(permute_rows(&rows, 1, 1)[..6], [0.0, 8.0, 1.0, 9.0, 2.0, 10.0]);
        // Two heads of four rows of two values: each head by itself.
        let rows: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
        assert_eq!(permute_rows(&rows, 2, 2), expected);
    }
}
