/**
 * Decodes a batch of examples: runs a search for each, and the model once a step for the hypotheses of all that have not ended.
 */
import { beamSearch, t5xBeamSearch } from './beam-search.ts';
import { greedySearch } from './greedy.ts';
import { samplingSearch } from './sampling.ts';
import type { Candidates, Hypothesis, Search } from './search.ts';
import type { DecodingSettings } from './settings.ts';

/** The decoder of a model with the encoded inputs of a batch; one call at a time. */
export interface DecodingSession {
  readonly vocabSize: number;
  /**
   * Appends a token to each hypothesis and gives its candidates.
   *
   * @param parents for each hypothesis, the index of the one of the call before that it continues; of its example in the first call
   * @param tokens the token that each appends; the start token in the first call
   * @param numCandidates likeliest tokens of each, at most `vocabSize`
   */
  advance(parents: readonly number[], tokens: readonly number[], numCandidates: number): Promise<readonly Candidates[]>;
}

/** @param example number of the example in its set: random numbers depend on it */
export function createSearch(settings: DecodingSettings, example: number, vocabSize: number): Search {
  switch (settings.method) {
    case 'greedy':
      return greedySearch(settings);
    case 'beam':
      return beamSearch(settings);
    case 'beam-t5x':
      return t5xBeamSearch(settings);
    case 'sample':
      return samplingSearch(settings, example, vocabSize);
  }
}

/** The hypotheses of each example, best first. @param searches one for each example of the session, new ones */
export async function decodeBatch(
  session: DecodingSession,
  searches: readonly Search[],
): Promise<readonly (readonly Hypothesis[])[]> {
  // For each search, the place of its first hypothesis in the call before.
  let starts = new Map(searches.map((search, at) => [search, at]));
  for (;;) {
    const active = searches.filter(({ continuations }) => continuations.length > 0);
    if (active.length === 0) break;
    const parents: number[] = [];
    const tokens: number[] = [];
    const next = new Map<Search, number>();
    for (const search of active) {
      next.set(search, parents.length);
      for (const { parent, token } of search.continuations) {
        parents.push(starts.get(search)! + parent);
        tokens.push(token);
      }
    }
    const numCandidates = Math.min(session.vocabSize, Math.max(...active.map((search) => search.numCandidates)));
    const candidates = await session.advance(parents, tokens, numCandidates);
    for (const search of active) {
      const start = next.get(search)!;
      search.advance(candidates.slice(start, start + search.continuations.length));
    }
    starts = next;
  }
  return searches.map((search) => search.result());
}
