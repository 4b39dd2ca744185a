"""Loads an exmix checkpoint with Hugging Face Transformers, like any user, and prints its loss on a fixed batch.

    python check_transformers.py CHECKPOINT BATCH.json

BATCH.json: {"input_ids": [[...]], "attention_mask": [[...]], "labels": [[...]]}; label -100 has no loss.
Prints one JSON object: loss (mean cross-entropy per target token, computed in float32 from the weights as they are), parameters, tensors, versions.
Fails if Transformers reports a missing, unexpected or newly initialised weight.
"""

import json
import sys

import torch
import transformers
from transformers import T5ForConditionalGeneration


def main(checkpoint: str, batch_path: str) -> None:
    model, info = T5ForConditionalGeneration.from_pretrained(checkpoint, output_loading_info=True)
    problems = {name: sorted(map(str, found)) for name, found in info.items() if found}
    if problems:
        sys.exit(f"{checkpoint}: Transformers did not load the weights unchanged: {json.dumps(problems)}")
    with open(batch_path, encoding="utf-8") as file:
        batch = {name: torch.tensor(rows, dtype=torch.long) for name, rows in json.load(file).items()}

    model.float().eval()
    torch.set_num_threads(1)
    with torch.no_grad():
        loss = model(**batch).loss
    print(
        json.dumps(
            {
                "loss": loss.item(),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "tensors": sum(1 for _ in model.parameters()),
                "transformers": transformers.__version__,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
