"""One rank of elastic data-parallel training as in the torchrun docs: DDP over gloo, a snapshot each step, resumed at each restart.

Arguments: snapshot path, log path, milliseconds of a step, gloo timeout in seconds. bench/recovery-torchrun.ts starts it through torchrun.
Each rank appends a line `time pid rank restart step` to the log after each step (time: ms since 1970). The model has as many parameters as
exmix's demo. A step computes for the given time, which a restart does not change.
"""

import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

snapshot, log, step_ms, timeout_s = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
rank, restart = dist.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"]
torch.manual_seed(1)
# 1.8 M parameters
model = torch.nn.Sequential(torch.nn.Linear(512, 1792), torch.nn.GELU(), torch.nn.Linear(1792, 512))
optimizer = torch.optim.Adafactor(model.parameters())
step = 0
if os.path.exists(snapshot):
    saved = torch.load(snapshot, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    step = saved["step"]
parallel = DistributedDataParallel(model)
with open(log, "a", buffering=1) as lines:
    while True:
        end = time.perf_counter() + step_ms / 1e3
        while True:  # gradients stay with this rank until the last pass of the step
            inputs = torch.randn(64, 512)
            last = time.perf_counter() >= end
            if last:
                parallel(inputs).square().mean().backward()
                break
            with parallel.no_sync():
                parallel(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if rank == 0:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, snapshot + ".new")
            os.replace(snapshot + ".new", snapshot)
        lines.write(f"{time.time() * 1e3:.0f} {os.getpid()} {rank} {restart} {step}\n")
