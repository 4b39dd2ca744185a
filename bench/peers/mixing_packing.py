"""Mixes and packs the synthetic mixture of bench/planner-peers.ts with grain or seqio.

The length of an example is that of a sample of its task, by index. Ids are slices of one array, so that reading a source costs nothing.
Prints one JSON line: rows, examples, mean fill of rows, wall and CPU seconds of this process, without its start and the first rows.

  python mixing_packing.py grain|seqio MIXTURE.json ROWS
"""
import json
import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def grain_rows(mixture):
    import grain

    tokens = np.ones(max(mixture["limits"]), np.int32)

    def task_dataset(task):
        inputs, targets = np.array(task["inputs"]), np.array(task["targets"])
        count = len(inputs)
        return (
            grain.MapDataset.range(task["numExamples"])
            .shuffle(seed=1)
            .map(lambda i: {"inputs": tokens[: inputs[i % count]], "targets": tokens[: targets[i % count]]})
            .repeat()
        )

    tasks = [task for task in mixture["tasks"] if task["share"] > 0]
    mixed = grain.MapDataset.mix([task_dataset(task) for task in tasks], [task["share"] for task in tasks])
    limits = dict(zip(("inputs", "targets"), mixture["limits"]))
    return iter(
        grain.experimental.FirstFitPackIterDataset(
            mixed.to_iter_dataset(grain.ReadOptions(num_threads=0)), length_struct=limits, num_packing_bins=64
        )
    )


def seqio_rows(mixture):
    import seqio
    import tensorflow as tf

    def task_dataset(task):
        inputs, targets = tf.constant(task["inputs"]), tf.constant(task["targets"])
        count = len(task["inputs"])
        return (
            tf.data.Dataset.range(task["numExamples"])
            .shuffle(1000, seed=1)
            .repeat()
            .map(lambda i: {"inputs": tf.ones([inputs[i % count]], tf.int32), "targets": tf.ones([targets[i % count]], tf.int32)})
        )

    tasks = [task for task in mixture["tasks"] if task["share"] > 0]
    mixed = tf.data.Dataset.sample_from_datasets(
        [task_dataset(task) for task in tasks], [task["share"] for task in tasks], seed=1
    )
    limits = dict(zip(("inputs", "targets"), mixture["limits"]))
    return seqio.utils.trim_and_pack_dataset(mixed, limits, use_custom_ops=False).as_numpy_iterator()


def main():
    name, path, num_rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(path) as file:
        mixture = json.load(file)
    rows = {"grain": grain_rows, "seqio": seqio_rows}[name](mixture)
    for _ in range(64):
        next(rows)
    wall, cpu = time.perf_counter(), cpu_seconds()
    examples = fill = 0
    for _ in range(num_rows):
        row = next(rows)
        segments = row["inputs_segment_ids"]
        examples += int(segments.max())
        fill += max(
            np.count_nonzero(segments) / mixture["limits"][0],
            np.count_nonzero(row["targets_segment_ids"]) / mixture["limits"][1],
        )
    print(
        json.dumps(
            {
                "rows": num_rows,
                "examples": examples,
                "fill": fill / num_rows,
                "wallSeconds": time.perf_counter() - wall,
                "cpuSeconds": cpu_seconds() - cpu,
            }
        )
    )


main()
