"""Times sacrebleu and rouge-score on a file of pairs (JSON: predictions, references). Prints seconds and scores as JSON.

pip install sacrebleu==2.6.0 rouge-score==0.1.2
"""
import json
import sys
import time

import sacrebleu
from rouge_score import rouge_scorer

pairs = json.load(open(sys.argv[1]))
predictions, references = pairs["predictions"], pairs["references"]

start = time.perf_counter()
bleu = sacrebleu.corpus_bleu(predictions, [references]).score
bleu_seconds = time.perf_counter() - start

scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
start = time.perf_counter()
scores = [scorer.score(target, prediction) for target, prediction in zip(references, predictions)]
rouge_seconds = time.perf_counter() - start
rouge = sum(score["rougeLsum"].fmeasure for score in scores) / len(scores) * 100

print(json.dumps({"bleu": bleu, "bleuSeconds": bleu_seconds, "rouge": rouge, "rougeSeconds": rouge_seconds}))
