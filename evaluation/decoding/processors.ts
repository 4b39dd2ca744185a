/**
 * What changes the scores of next tokens before one is chosen, in Transformers' order: repetition penalty, no repeated n-grams, minimum length,
 * forced EOS. Source: transformers 5.23 generation/logits_process.py.
 */
import type { Candidates } from './search.ts';
import { EOS_TOKEN, START_TOKEN, type DecodingSettings } from './settings.ts';

export interface ScoredToken {
  readonly id: number;
  readonly score: number;
}

/** Largest number of candidates that processors may take away or reorder, for a hypothesis of `length` tokens. */
export function numChangedTokens(settings: DecodingSettings, length: number): number {
  const own = settings.repetitionPenalty === 1 && settings.noRepeatNgramSize === 0 ? 0 : length + 1;
  return own + (settings.minNewTokens > length ? 1 : 0);
}

/** Tokens that would complete an n-gram that the sequence already has. @param sequence with the start token */
function repeatingTokens(sequence: readonly number[], size: number): Set<number> {
  const tokens = new Set<number>();
  if (size === 0 || sequence.length + 1 < size) return tokens;
  const prefix = sequence.slice(sequence.length - (size - 1));
  for (let start = 0; start + size <= sequence.length; start++) {
    if (prefix.every((token, at) => sequence[start + at] === token)) tokens.add(sequence[start + size - 1]!);
  }
  return tokens;
}

/**
 * The candidates with processed scores, best first.
 *
 * @param ids tokens of the hypothesis, without the start token
 * @param asLogits the scores are logits (greedy, sampling) and not log-probabilities (beam search)
 */
export function processCandidates(
  candidates: Candidates,
  ids: readonly number[],
  settings: DecodingSettings,
  asLogits: boolean,
): ScoredToken[] {
  const shift = asLogits ? candidates.logNormalizer : 0;
  if (settings.forcedEos && ids.length === settings.maxNewTokens - 1) return [{ id: EOS_TOKEN, score: 0 }];
  const scores = new Map<number, number>();
  for (let at = 0; at < candidates.ids.length; at++)
    scores.set(candidates.ids[at]!, candidates.logProbabilities[at]! + shift);
  if (numChangedTokens(settings, ids.length) > 0) {
    const sequence = [START_TOKEN, ...ids];
    if (settings.repetitionPenalty !== 1) {
      for (const [at, id] of sequence.entries()) {
        const score = candidates.ownLogProbabilities[1 + at]! + shift;
        scores.set(id, score < 0 ? score * settings.repetitionPenalty : score / settings.repetitionPenalty);
      }
    }
    for (const id of repeatingTokens(sequence, settings.noRepeatNgramSize)) scores.delete(id);
    if (ids.length < settings.minNewTokens) scores.delete(EOS_TOKEN);
  }
  const processed = Array.from(scores, ([id, score]) => ({ id, score }));
  return processed.sort((a, b) => b.score - a.score || a.id - b.id);
}
