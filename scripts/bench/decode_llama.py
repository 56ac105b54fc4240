"""One stream of greedy decoding through llama.cpp (PyPI xllamacpp), for scripts/bench-decode.

    python decode_llama.py MODEL.gguf PROMPT_IDS.json TOKENS THREADS RUNS

Prints one JSON object: tokens per second of each run, by llama.cpp's own clock inside its server loop: no HTTP and no
Python between two tokens. Weights as they are in the file, keys and values f32 as ours, no context shift, greedy
choice; with and without flash attention, because neither is the faster one everywhere.
"""

import json
import pathlib
import sys

import xllamacpp

model, prompt, tokens, threads, runs = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text()), *map(int, sys.argv[3:])
rates = {}
for flash in ("DISABLED", "ENABLED"):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = 1024, 1, 0, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.ctx_shift = False
    params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}")
    server = xllamacpp.Server(params)
    asked = {
        "prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False,
        "temperature": 0, "samplers": ["top_k"], "top_k": 1,
    }
    answers = [server.handle_completions(asked) for _ in range(runs)]
    answers = [json.loads(answer) if isinstance(answer, str) else answer for answer in answers]
    rates[flash] = [answer["timings"]["predicted_per_second"] for answer in answers]
print(json.dumps({"rates": rates, "system": xllamacpp.get_system_info()}))
