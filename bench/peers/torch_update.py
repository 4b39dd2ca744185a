"""Runs one update of an optimizer on PyTorch for every line on stdin, for bench/optimizer-update.ts; prints its ms.

usage: torch_update.py JSON    with kind, numThreads and the shapes of all parameters
"""

import json
import math
import sys
import time

import torch

given = json.loads(sys.argv[1])
torch.set_num_threads(given["numThreads"])
torch.manual_seed(0)
parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in given["shapes"]]
for parameter in parameters:
    parameter.grad = torch.randn_like(parameter)


class AdamWScale(torch.optim.Optimizer):
    """nanoT5's rule (nanoT5/utils/copied_utils.py), without weight decay."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-6})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if len(state) == 0:
                    state["step"], state["m"], state["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                state["m"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                state["v"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                denominator = state["v"].sqrt().add_(group["eps"])
                size = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
                size = size * max(1e-3, p.norm(2) / p.numel() ** 0.5)
                p.addcdiv_(state["m"], denominator, value=-float(size))


kind = given["kind"]
if kind.startswith("AdamW") and kind != "AdamWScale":
    flags = {flag: True for flag in ("foreach", "fused") if kind.endswith(flag)}
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0, **flags)
elif kind == "AdamWScale":
    optimizer = AdamWScale(parameters, lr=1e-3)
else:
    from transformers.optimization import Adafactor

    optimizer = Adafactor(
        parameters,
        lr=1e-3,
        eps=(1e-30, 1e-3),
        clip_threshold=1.0,
        decay_rate=-0.8,
        beta1=None,
        scale_parameter=True,
        relative_step=False,
        warmup_init=False,
    )

for _ in sys.stdin:
    start = time.perf_counter()
    optimizer.step()
    print(1000 * (time.perf_counter() - start), flush=True)
