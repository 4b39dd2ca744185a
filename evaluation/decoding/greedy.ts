/** Greedy search and sampling: one hypothesis, one token a step. */
import { assertInvariant } from '../../shared/errors.ts';
import { numChangedTokens, processCandidates, type ScoredToken } from './processors.ts';
import type { Candidates, Continuation, Hypothesis, Search } from './search.ts';
import { EOS_TOKEN, START_TOKEN, type GreedySettings, type SamplingSettings } from './settings.ts';

/** Chooses one of the processed tokens (scores are logits). @param length tokens of the hypothesis so far */
export type ChooseToken = (tokens: readonly ScoredToken[], length: number) => number;

export class SingleSearch implements Search {
  readonly #settings: GreedySettings | SamplingSettings;
  readonly #choose: ChooseToken;
  readonly #numWanted: number;
  readonly #ids: number[] = [];
  readonly #tokenLogProbabilities: number[] = [];
  #continuations: readonly Continuation[] = [{ parent: 0, token: START_TOKEN }];

  /** @param numWanted processed candidates that `choose` needs */
  constructor(settings: GreedySettings | SamplingSettings, numWanted: number, choose: ChooseToken) {
    this.#settings = settings;
    this.#numWanted = numWanted;
    this.#choose = choose;
  }

  get numCandidates(): number {
    return this.#numWanted + numChangedTokens(this.#settings, this.#ids.length);
  }

  get continuations(): readonly Continuation[] {
    return this.#continuations;
  }

  advance([candidates]: readonly Candidates[]): void {
    assertInvariant(candidates !== undefined, 'one hypothesis has candidates');
    const tokens = processCandidates(candidates, this.#ids, this.#settings, true);
    const id = this.#choose(tokens.slice(0, this.#numWanted), this.#ids.length); // more came if another example wanted more
    this.#tokenLogProbabilities.push(logProbabilityOf(id, candidates, this.#ids));
    this.#ids.push(id);
    const hasEnded = id === EOS_TOKEN || this.#ids.length === this.#settings.maxNewTokens;
    this.#continuations = hasEnded ? [] : [{ parent: 0, token: id }];
  }

  /** Log-probabilities of the chosen tokens, before processors. */
  get tokenLogProbabilities(): readonly number[] {
    return this.#tokenLogProbabilities;
  }

  result(): readonly Hypothesis[] {
    assertInvariant(this.#continuations.length === 0, 'the search has ended');
    const logProbability = this.#tokenLogProbabilities.reduce((sum, one) => sum + one, 0);
    return [{ ids: this.#ids, score: logProbability, logProbability }];
  }
}

function logProbabilityOf(id: number, candidates: Candidates, ids: readonly number[]): number {
  const own = [EOS_TOKEN, START_TOKEN, ...ids].indexOf(id);
  if (own !== -1) return candidates.ownLogProbabilities[own]!;
  const at = Array.prototype.indexOf.call(candidates.ids, id);
  assertInvariant(at !== -1, 'a chosen token is a candidate');
  return candidates.logProbabilities[at]!;
}

/** The likeliest token at each step. */
export function greedySearch(settings: GreedySettings): SingleSearch {
  return new SingleSearch(settings, 1, ([best]) => {
    assertInvariant(best !== undefined, 'processors leave a token');
    return best.id;
  });
}
