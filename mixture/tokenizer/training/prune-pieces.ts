/**
 * Removes the pieces whose loss costs the least likelihood.
 *
 * The loss of a piece = its share of the words × (its log probability − that of the pieces which would stand for it, with its count added
 * to theirs). A piece that its own text is better segmented without, or that no best segmentation uses, costs nothing.
 * Source: PruneSentencePieces in unigram_model_trainer.cc of google/sentencepiece.
 */
import type { WordLattice } from './word-lattice.ts';
import type { TrainingWords } from './word-counts.ts';

/** Sets the scores of removed pieces to NaN; about `size` pieces stay (those without alternative always do). */
export function prunePieces(
  lattice: WordLattice,
  scores: Float64Array,
  keys: readonly Uint8Array[],
  words: TrainingWords,
  size: number,
): void {
  const used = new Float64Array(scores.length);
  lattice.addBestCounts(words, used);
  const numUsed = used.reduce((sum, count) => sum + count, 0);
  const numWords = words.counts.reduce((sum, count) => sum + count, 0);
  const candidates: { id: number; loss: number }[] = [];
  const removed: number[] = [];
  let numKept = 0;
  scores.forEach((score, id) => {
    if (Number.isNaN(score)) return;
    const alternative = lattice.bestAlternative(keys[id]!);
    const count = used[id]!;
    if (alternative === undefined && count > 0) {
      numKept++;
      return;
    }
    if (alternative === undefined || count === 0 || alternative.score > score) {
      removed.push(id);
      return;
    }
    const logSumWithout = Math.log(numUsed + count * (alternative.ids.length - 1));
    const logProbabilityWithout = alternative.ids.reduce(
      (sum, other) => sum + Math.log(used[other]! + count) - logSumWithout,
      0,
    );
    const logProbability = Math.log(count) - Math.log(numUsed);
    candidates.push({ id, loss: (count / numWords) * (logProbability - logProbabilityWithout) });
  });
  candidates.sort((a, b) => b.loss - a.loss || a.id - b.id);
  for (const { id } of candidates.slice(Math.max(0, size - numKept))) removed.push(id);
  for (const id of removed) scores[id] = NaN;
}
