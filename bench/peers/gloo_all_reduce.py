"""One rank of torch.distributed's gloo all-reduce, driven over stdin by bench/all-reduce.ts.

Arguments: rank, world size, store file. Each line of stdin is a number of bytes. The answer is the time and the CPU time, ms, of one
all-reduce of so many bytes of float32 ones, after a barrier. The sum is checked.
"""

import sys
import time

import torch
import torch.distributed as dist

rank, world_size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
print("ready", flush=True)
buffer = torch.empty(0)
for line in sys.stdin:
    num_elements = int(line) // 4
    if buffer.numel() != num_elements:
        buffer = torch.empty(num_elements)
    buffer.fill_(1)
    dist.barrier()
    start, start_cpu = time.perf_counter(), time.process_time()
    dist.all_reduce(buffer)
    elapsed_ms, cpu_ms = (time.perf_counter() - start) * 1e3, (time.process_time() - start_cpu) * 1e3
    assert buffer[0] == world_size and buffer[-1] == world_size
    print(elapsed_ms, cpu_ms, flush=True)
