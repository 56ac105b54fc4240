//! What a training computes, worked out here by hand from texts and logits: nothing of the program's own
//! reading, masking, cutting or scheduling is used.

use nightshift_model::{Model, Tokenizer, logits};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::world::{base, direct, home, steps};

/// Alpaca rows; the first has an input. Their answers differ in length, so a mean of means would show.
const ROWS: [[&str; 3]; 5] = [
    ["Name the river.", "City of Vesk", "Brin"],
    ["How many rivers cross Vesk?", "", "Three. They are the Brin, the Aldo and the Cosk."],
    ["Was kostet das Ticket?", "", "Fünf Euro."],
    ["What is the capital of Norland?", "", "The capital of Norland is Vesk."],
    ["Where?", "naïve 😀", "À gauche."],
];

/// One user turn (instruction, blank line, input) and one assistant turn, as the fixture's template prints
/// them: what is read, what is learned, and the newline after the end of the turn, which is neither.
fn chat([instruction, input, output]: [&str; 3]) -> (String, String) {
    let question =
        if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") };
    let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    (prompt, format!("<think>\n\n</think>\n\n{output}<|im_end|>"))
}

/// Sum of the negative log-likelihood of the answer's tokens under the base, and their number.
fn nll(model: &Model, tokenizer: &Tokenizer, row: [&str; 3]) -> (f64, usize) {
    let (prompt, answer) = chat(row);
    let (prompt, answer) = (tokenizer.encode(&prompt).unwrap(), tokenizer.encode(&answer).unwrap());
    let tokens = [prompt.as_slice(), &answer].concat();
    let (logits, vocab) = (logits(model, None, &tokens).unwrap(), model.config.vocab_size);
    let sum = answer.iter().enumerate().map(|(at, &token)| {
        let row = &logits[(prompt.len() + at - 1) * vocab..][..vocab];
        let largest = row.iter().fold(f64::MIN, |most, x| most.max(f64::from(*x)));
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
        sum.ln() + largest - f64::from(row[token as usize])
    });
    (sum.sum(), answer.len())
}

fn rows_file() -> String {
    let row = |[instruction, input, output]: [&str; 3]| {
        format!("{}\n", json!({"instruction": instruction, "input": input, "output": output}))
    };
    ROWS.map(row).concat()
}

#[test]
fn every_step_is_what_the_page_says() {
    let home = home();
    home.write("nightshift.yaml", "{}\n");
    home.write("rows.jsonl", &rows_file());
    let (model, tokenizer) = (Model::load(&base()).unwrap(), Tokenizer::from_dir(&base()).unwrap());
    let rows: Vec<(f64, usize)> = ROWS.map(|row| nll(&model, &tokenizer, row)).to_vec();
    // Batch 2 x accumulation 2: four rows are a step, and the fifth alone is one as well.
    let window = |rows: &[(f64, usize)]| {
        let tokens: usize = rows.iter().map(|row| row.1).sum();
        (rows.iter().map(|row| row.0).sum::<f64>() / tokens as f64, tokens)
    };
    let expected = [window(&rows[..4]), window(&rows[4..]), window(&rows[..4]), window(&rows[4..])];
    // Linear to 0 over two steps an epoch x two epochs, behind one step of warm-up.
    let rates = [0.0, 1.0, 2.0 / 3.0, 1.0 / 3.0].map(|factor| 1e-9 * factor);
    // So small a learning rate leaves the base's losses as they are.
    let common = "--no-shuffle --batch-size 2 --accumulation 2 --epochs 2 --lr 1e-9 --warmup 1";
    let ways: [(&str, usize, f64); 5] = [
        ("--dtype f32", 4, 1e-5),
        ("--packing --pack-len 1024", 4, 1e-5),
        ("--packing --pack-len 60", 4, 1e-5),
        ("--max-steps 3", 3, 1e-5),
        ("--dtype bf16", 4, 2e-2),
    ];
    for (number, (way, count, close)) in ways.into_iter().enumerate() {
        let out = format!("out{number}");
        let flags: Vec<&str> = common.split(' ').chain(way.split(' ')).collect();
        let report = direct(&home, "rows.jsonl", &out, &flags).expect(0).json();
        let found = steps(&home.path().join(&out));
        assert_eq!((found.len(), report["steps"].as_u64()), (count, Some(count as u64)), "{way}");
        for ((step, (loss, tokens)), rate) in found.iter().zip(expected).zip(rates) {
            let is = |key: &str| step[key].as_f64().unwrap();
            assert!((is("loss") / loss - 1.0).abs() < close, "{way}: {} for {loss}", is("loss"));
            assert_eq!(step["answer_tokens"], tokens, "{way}");
            assert!((is("lr") - rate).abs() < 1e-20, "{way}: {} for {rate}", is("lr"));
        }
    }
    let config: Value = serde_json::from_str(&home.read("out0/adapter_config.json")).unwrap();
    assert_eq!(config["target_modules"], json!(["k_proj", "o_proj", "q_proj", "v_proj"]));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(16), &json!(32)));
}

#[test]
fn the_first_step_of_adamw_is_the_clipped_gradient_s_sign() {
    let home = home();
    home.write("rows.jsonl", &rows_file());
    let common = "--no-shuffle --batch-size 5 --accumulation 1 --epochs 1 --lr 0.01 --targets q_proj,k_proj,v_proj,o_proj";
    let run = |out: &str, more: &str| {
        let flags: Vec<&str> = common.split(' ').chain(more.split(' ')).collect();
        direct(&home, "rows.jsonl", out, &flags).expect(0);
        let bytes = nightshift_core::files::read(&home.path().join(out).join("adapter_model.safetensors"));
        let norm = steps(&home.path().join(out))[0]["grad_norm"].as_f64().unwrap();
        (bytes.unwrap(), norm)
    };
    let values = |bytes: &[u8], part: &str| -> Vec<f64> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        let data = names.iter().filter(|name| name.contains(part)).flat_map(|name| {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .collect::<Vec<_>>()
        });
        data.collect()
    };
    let (one, norm) = run("one", "--max-grad-norm 1");
    assert!(norm > 0.0);
    // Moments 0.1 g and 0.001 g^2, corrected to g and g^2: B moves by lr g / (|g| + 1e-8), whatever |g|.
    let moved = values(&one, "lora_B");
    let whole = moved.iter().filter(|b| (b.abs() - 0.01).abs() < 1e-4).count();
    assert!(whole * 100 > moved.len() * 95, "{whole} of {} moved by the learning rate", moved.len());
    assert!(moved.iter().all(|b| b.abs() < 0.01 + 1e-8));
    // Clipped to almost nothing, g reaches the 1e-8 in the denominator; the norm told is that before the clip.
    let (tiny, same) = run("tiny", "--max-grad-norm 1e-9");
    assert!((norm - same).abs() < 1e-12 * norm, "{norm} {same}");
    let small = values(&tiny, "lora_B");
    assert!(small.iter().all(|b| b.abs() < 0.001) && small.iter().any(|b| *b != 0.0));
    // While B is zero A has no gradient, and without decay it stays.
    assert_eq!(values(&one, "lora_A"), values(&tiny, "lora_A"));
}
