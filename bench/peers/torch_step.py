"""Runs one training step of Transformers' T5 on PyTorch for every line on stdin, for bench/native-engine.ts.

usage: torch_step.py JSON    with exmix's model config, [rows, inputs length, targets length], numThreads, precision
Prints a description, then for each step {"stepMs", "updateMs", "cpuMs", "loss"}. Adafactor is Transformers' own with T5's settings. A step is
forward, backward (without z-loss, which Transformers does not have) and the gradients of all parameters.
"""

import json
import os
import sys
import time

import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration
from transformers.optimization import Adafactor

given = json.loads(sys.argv[1])
config, (rows, inputs_length, targets_length) = given["config"], given["size"]
torch.set_num_threads(given["numThreads"])
torch.manual_seed(0)
model = T5ForConditionalGeneration(
    T5Config(
        d_model=config["dModel"],
        d_kv=config["dKv"],
        d_ff=config["dFf"],
        num_layers=config["numLayers"],
        num_decoder_layers=config["numDecoderLayers"],
        num_heads=config["numHeads"],
        vocab_size=config["vocabSize"],
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
)
if model.lm_head.weight is model.shared.weight:  # transformers 5 ties a model that is not loaded from a file
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * config["dModel"] ** -0.5)
optimizer = Adafactor(
    model.parameters(),
    lr=0.01,
    eps=(1e-30, 1e-3),
    clip_threshold=1.0,
    decay_rate=-0.8,
    beta1=None,
    scale_parameter=True,
    relative_step=False,
    warmup_init=False,
)


def ids(length, factor):
    return (torch.arange(rows * length) * factor % config["vocabSize"]).reshape(rows, length)


batch = {
    "input_ids": ids(inputs_length, 37),
    "attention_mask": torch.ones(rows, inputs_length, dtype=torch.long),
    "decoder_input_ids": ids(targets_length, 53),
    "labels": ids(targets_length, 71),
}
num_parameters = sum(parameter.numel() for parameter in model.parameters())
print(
    f"torch {torch.__version__}, transformers {transformers.__version__}, "
    f"{torch.get_num_threads()} threads, {num_parameters / 1e6:.2f} M parameters, "
    f"attention {model.config._attn_implementation}",
    flush=True,
)
narrow = given.get("precision") == "bfloat16"


def cpu_ms():
    times = os.times()
    return 1000 * (times.user + times.system)


for _ in sys.stdin:
    cpu, start = cpu_ms(), time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    middle = time.perf_counter()
    optimizer.step()
    end = time.perf_counter()
    timing = {
        "stepMs": 1000 * (middle - start),
        "updateMs": 1000 * (end - middle),
        "cpuMs": cpu_ms() - cpu,
        "loss": loss.item(),
    }
    print(json.dumps(timing), flush=True)
