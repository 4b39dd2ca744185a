"""Generates with Transformers from an exmix checkpoint and compares the texts with those of `exmix generate`.

    python compare_texts.py CHECKPOINT OURS.jsonl [NUM_BEAMS] [MAX_NEW_TOKENS]

OURS.jsonl is the output of `exmix generate CHECKPOINT --num-beams NUM_BEAMS --max-new-tokens MAX_NEW_TOKENS`. A text may differ only at a near
tie. Greedy: the two likeliest tokens of some step are less than 1e-4 apart in log-probability. Beams: the scores of the two texts are.
Prints one JSON object; exit status 1 if another text differs.
"""

import json
import sys

import sentencepiece
import torch
from transformers import T5ForConditionalGeneration

MARGIN = 1e-4
BATCH = 20


def main(checkpoint: str, ours_path: str, num_beams: int = 1, max_new_tokens: int = 64) -> int:
    torch.set_num_threads(1)
    model = T5ForConditionalGeneration.from_pretrained(checkpoint).eval()
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{checkpoint}/spiece.model")
    with open(ours_path, encoding="utf-8") as file:
        ours = [json.loads(line) for line in file]

    def text_of(ids):
        kept = []
        for token in ids:
            if token == 1:
                break
            if token != 0:
                kept.append(token)
        return pieces.decode([token for token in kept if token < pieces.get_piece_size()])

    equal, ties, wrong = 0, [], []
    for start in range(0, len(ours), BATCH):
        part = ours[start : start + BATCH]
        rows = [[*pieces.encode(one["inputs"]), 1] for one in part]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=mask,
                num_beams=num_beams,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                return_dict_in_generate=True,
                output_scores=True,
            )
        for row, one in enumerate(part):
            theirs = text_of(found.sequences[row, 1:].tolist())
            if theirs == one["prediction"]:
                equal += 1
                continue
            if num_beams > 1:
                margin = abs(found.sequences_scores[row].item() - one["score"])
            else:
                steps = torch.stack([step[row] for step in found.scores]).log_softmax(-1).topk(2).values
                margin = (steps[:, 0] - steps[:, 1]).min().item()
            case = {"inputs": one["inputs"], "exmix": one["prediction"], "transformers": theirs, "margin": margin}
            (ties if margin < MARGIN else wrong).append(case)
    print(json.dumps({"examples": len(ours), "equal": equal, "near_ties": len(ties), "wrong": wrong}, ensure_ascii=False))
    return 1 if wrong or equal == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
