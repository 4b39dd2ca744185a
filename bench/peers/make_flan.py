"""Makes a small random T5 of flan's shape with Transformers, in float16: v1.1, gated gelu, an output layer of its own.

    python make_flan.py FOLDER TOKENIZER.model

FOLDER then holds config.json, generation_config.json, model.safetensors and the tokenizer as spiece.model. The seed is fixed.
Its 512 ids after those of the tokenizer are padding of the table, as the last 28 of flan.
"""

import json
import shutil
import sys
from pathlib import Path

import sentencepiece
import torch
from safetensors import safe_open
from transformers import T5Config, T5ForConditionalGeneration

PADDING = 512


def main(folder: Path, tokenizer: Path) -> None:
    numbers = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    torch.manual_seed(20)
    config = T5Config(
        vocab_size=numbers.get_piece_size() + PADDING,
        d_model=64,
        d_kv=16,
        d_ff=160,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.1,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    # Transformers 5 ties the head of every T5 that it makes; flan has its own.
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) / config.d_model**0.5)
    config.tie_word_embeddings = model.config.tie_word_embeddings = False
    model.half().save_pretrained(folder)
    shutil.copy(tokenizer, folder / "spiece.model")
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert "lm_head.weight" in names, names
        dtypes = {str(file.get_tensor(name).dtype) for name in names}
    print(json.dumps({"folder": str(folder), "tensors": len(names), "dtypes": sorted(dtypes), "vocab_size": config.vocab_size}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
