"""Trains Transformers' T5 by nanoT5's AdamWScale on given batches and prints the loss of each step, for bench/adamw-losses.ts.

usage: adamw_losses.py FOLDER    with config.json, given.json (optimizer, parameters, batches) and start.f32 (all parameters in their order)
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

folder = Path(sys.argv[1])
given = json.loads((folder / "given.json").read_text())
torch.set_num_threads(1)
model = T5ForConditionalGeneration(T5Config.from_pretrained(folder))
# Transformers 5 ties the head of every T5; the config says whether it is one table.
if not json.loads((folder / "config.json").read_text())["tie_word_embeddings"]:
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.shared.weight))
model.eval()  # no dropout

values = np.fromfile(folder / "start.f32", dtype=np.float32)
named = dict(model.named_parameters())
place = 0
for spec in given["parameters"]:
    parameter = named.pop(spec["name"])
    assert list(parameter.shape) == spec["shape"], spec["name"]
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values[place : place + parameter.numel()].reshape(spec["shape"])))
    place += parameter.numel()
assert place == len(values) and not named, named.keys()

settings = given["optimizer"]
beta1, beta2, eps, decay = settings["beta1"], settings["beta2"], 1e-6, settings["weightDecay"]
no_decay = ["bias", "LayerNorm", "layernorm", "layer_norm", "ln"]  # nanoT5/utils/model_utils.py
state = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in model.named_parameters()}
losses = []
for step, batch in enumerate(given["batches"], start=1):
    rate = batch.pop("learning_rate")
    loss = model(**{key: torch.tensor(value) for key, value in batch.items()}, use_cache=False).loss
    losses.append(loss.item())
    model.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings["maxGradNorm"])
    with torch.no_grad():
        for name, p in model.named_parameters():  # AdamWScale of nanoT5/utils/copied_utils.py
            m, v = state[name]
            m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
            v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            size = rate * math.sqrt(1 - beta2**step) / (1 - beta1**step)
            size = size * max(1e-3, float(p.norm(2) / p.numel() ** 0.5))
            p.addcdiv_(m, v.sqrt().add_(eps), value=-size)
            if decay > 0 and not any(part in name for part in no_decay):
                p.add_(p, alpha=-rate * decay)
print(json.dumps(losses))
