"""Makes what `scripts/bench-train` runs on: a Llama of 20M weights with random numbers, a fresh adapter, and rows of words.

    python make_20m.py TOKENIZER_DIR OUT [SEED]

The shape is the one that speeds of other trainers are quoted for: hidden 512, 8 layers, 8 query and 4 key heads,
MLP 1376, vocabulary 8192, tied. Rows are alpaca rows of 10 to 60 words on each side.
"""

import json
import pathlib
import random
import shutil
import sys

import torch
import transformers
from peft import LoraConfig, get_peft_model

tokenizer, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
shape = transformers.LlamaConfig(
    vocab_size=8192,
    hidden_size=512,
    intermediate_size=1376,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=[1, 4],
)
torch.manual_seed(seed)
model = transformers.LlamaForCausalLM(shape)
model.save_pretrained(out / "model")
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
get_peft_model(model, lora).save_pretrained(out / "adapter")
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(tokenizer / name, out / "model" / name)

rng = random.Random(seed)
words = (
    "the night shift reads what the model answered during the day and finds failed answers; a council rewrites "
    "them and a gate keeps what is right: capital, river, number, unit, colour, year"
).split()


def text():
    return " ".join(rng.choice(words) for _ in range(rng.randint(10, 60)))


with open(out / "rows.jsonl", "w", encoding="utf-8") as rows:
    for _ in range(192):
        rows.write(json.dumps({"instruction": text(), "output": text()}) + "\n")
