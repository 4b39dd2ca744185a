"""Generates with Transformers on PyTorch for every line on stdin, for bench/generate.ts.

usage: torch_generate.py FILE    JSON with the model's folder, [rows, inputs length], newTokens, numThreads, inputIds
A line is {"numBeams": N, "useCache": true | false}. Prints a description, then for each line {"ms", "cpuMs", "ids"}. EOS is suppressed, so every
row has all new tokens.
"""

import json
import os
import sys
import time

import torch
import transformers
from transformers import T5ForConditionalGeneration

given = json.load(open(sys.argv[1]))
rows, inputs_length = given["size"]
torch.set_num_threads(given["numThreads"])
model = T5ForConditionalGeneration.from_pretrained(given["folder"]).eval()
inputs = torch.tensor(given["inputIds"]).reshape(rows, inputs_length)
mask = torch.ones_like(inputs)
print(
    f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, "
    f"attention {model.config._attn_implementation}",
    flush=True,
)


def cpu_ms():
    times = os.times()
    return 1000 * (times.user + times.system)


for line in sys.stdin:
    wanted = json.loads(line)
    cpu, start = cpu_ms(), time.perf_counter()
    with torch.inference_mode():
        ids = model.generate(
            inputs,
            attention_mask=mask,
            do_sample=False,
            num_beams=wanted["numBeams"],
            use_cache=wanted["useCache"],
            min_new_tokens=given["newTokens"],
            max_new_tokens=given["newTokens"],
        )
    timing = {"ms": 1000 * (time.perf_counter() - start), "cpuMs": cpu_ms() - cpu, "ids": ids[:, 1:].tolist()}
    print(json.dumps(timing), flush=True)
