"""Loads the tokenizer of a checkpoint with Hugging Face Transformers, without the library sentencepiece, and generates.

    python check_tokenizer.py FOLDER ORACLE.jsonl [PROMPT]

ORACLE.jsonl: lines with text and ids (SentencePiece, without EOS), and hf_ids (Transformers, with EOS) where these differ, as
golden/sentencepiece/oracle.jsonl; FOLDER then has that spiece.model.
Prints one JSON object: texts, ids equal to those of Transformers' own converter, ids equal to SentencePiece's, and each text of which
SentencePiece makes other ids, by cause; the output of the model for PROMPT. Fails if sentencepiece can be imported, or any id differs from
those of Transformers' converter.
"""

import importlib.util
import json
import re
import sys

import transformers
from transformers import AutoTokenizer, T5ForConditionalGeneration


def cause_of(text: str, tie: bool) -> str:
    if re.search(r"<pad>|</s>|<unk>|<extra_id_\d+>", text):
        return "literal special token"
    if "\u0085" in text:
        return "U+0085"
    return "tie" if tie else "stacked combining marks"


def main(folder: str, oracle_path: str, prompt: str) -> None:
    if importlib.util.find_spec("sentencepiece") is not None:
        sys.exit("sentencepiece is installed: use an environment without it")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(oracle_path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    wrong, causes = [], {}
    for number, line in enumerate(lines, start=1):
        ids = tokenizer(line["text"])["input_ids"]
        plain = line["ids"] + [tokenizer.eos_token_id]
        if ids != line.get("hf_ids", plain):
            wrong.append(number)
        if ids != plain:
            causes.setdefault(cause_of(line["text"], bool(line.get("tie"))), []).append(number)
    sentinels = [tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in (0, 99)]
    model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    output = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=16)
    print(
        json.dumps(
            {
                "texts": len(lines),
                "equal to Transformers' converter": len(lines) - len(wrong),
                "equal to SentencePiece": len(lines) - sum(map(len, causes.values())),
                "other ids than SentencePiece, by line": causes,
                "extra ids 0 and 99": sentinels,
                "class": type(tokenizer).__name__,
                "output": tokenizer.decode(output[0], skip_special_tokens=True),
                "transformers": transformers.__version__,
            },
            ensure_ascii=False,
        )
    )
    if wrong:
        sys.exit(f"{folder}: other ids than Transformers' converter in lines {wrong}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else "the list of names")
