"""Prints the learning rates of nanoT5's cosine schedule at some steps, by PyTorch's own schedulers, for shared/learning-rate.test.ts.

usage: nanot5_schedule.py
The schedulers and their settings are those of nanoT5/utils/model_utils.py and nanoT5/configs/default.yaml.
"""

import warnings

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

WARMUP_STEPS, TOTAL_STEPS, PEAK, FLOOR = 10_000, 65_536, 2e-2, 1e-5
STEPS = [0, 1, 2_500, 9_999, 10_000, 10_001, 37_768, 60_000, 65_535, 65_536]

warnings.simplefilter("ignore")  # the order of optimizer and scheduler does not matter here
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
warmup = LinearLR(optimizer, start_factor=0.5, end_factor=1, total_iters=WARMUP_STEPS, last_epoch=-1)
cosine = CosineAnnealingLR(optimizer, T_max=TOTAL_STEPS - WARMUP_STEPS, eta_min=FLOOR)
scheduler = SequentialLR(optimizer, schedulers=[warmup, cosine], milestones=[WARMUP_STEPS])
for step in range(TOTAL_STEPS + 1):
    if step in STEPS:
        print(f"[{step}, {optimizer.param_groups[0]['lr']!r}],")
    scheduler.step()
