/**
 * Beam search by two rules: Transformers' (5.23 generation/utils.py `_beam_search`) and T5X's (decoding.py `beam_search`, commit cc342d4).
 *
 * Both keep `numBeams` live hypotheses and the best finished ones. Scores are sums of processed log-probabilities, not normalized again.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { numChangedTokens, processCandidates } from './processors.ts';
import type { Candidates, Continuation, Hypothesis, Search } from './search.ts';
import { EOS_TOKEN, START_TOKEN, type BeamSettings, type T5xBeamSettings } from './settings.ts';

interface LiveHypothesis {
  readonly parent: number;
  readonly ids: readonly number[];
  readonly sum: number;
}

/** What the two rules decide differently. */
interface BeamRule {
  /** Score of a hypothesis that ends after `length` tokens, EOS included. */
  score(sum: number, length: number): number;
  /** Ended candidates that enter, of the best `2 · numBeams` in their order. */
  entering(
    ended: readonly (readonly [rank: number, hypothesis: LiveHypothesis])[],
    numFinished: number,
  ): readonly LiveHypothesis[];
  /** Whether hypotheses without EOS end at the last step and compete with finished ones. */
  readonly endsAtLimit: boolean;
  /** Whether the search ends after a step of `length` tokens. @param worst of `numBeams` finished; undefined if there are fewer */
  hasEnded(bestSum: number, length: number, worst: number | undefined): boolean;
}

class BeamSearch implements Search {
  readonly #settings: BeamSettings | T5xBeamSettings;
  readonly #rule: BeamRule;
  #live: readonly LiveHypothesis[] = [{ parent: 0, ids: [], sum: 0 }];
  #finished: readonly Hypothesis[] = [];
  #hasEnded = false;

  constructor(settings: BeamSettings | T5xBeamSettings, rule: BeamRule) {
    this.#settings = settings;
    this.#rule = rule;
  }

  get #length(): number {
    return this.#live[0]?.ids.length ?? 0;
  }

  get numCandidates(): number {
    return 2 * this.#settings.numBeams + numChangedTokens(this.#settings, this.#length);
  }

  get continuations(): readonly Continuation[] {
    return this.#hasEnded ? [] : this.#live.map(({ parent, ids }) => ({ parent, token: ids.at(-1) ?? START_TOKEN }));
  }

  advance(candidates: readonly Candidates[]): void {
    const { numBeams, maxNewTokens } = this.#settings;
    const best = this.#bestContinuations(candidates);
    const length = this.#length + 1;
    const isLast = length === maxNewTokens;
    const ends = ({ ids }: LiveHypothesis): boolean => ids.at(-1) === EOS_TOKEN || (isLast && this.#rule.endsAtLimit);
    const ended = best.flatMap((hypothesis, rank) => (ends(hypothesis) ? [[rank, hypothesis] as const] : []));
    const entering = this.#rule.entering(ended, this.#finished.length).map(({ ids, sum }) => ({
      ids,
      score: this.#rule.score(sum, length),
      logProbability: sum,
    }));
    this.#finished = [...this.#finished, ...entering].sort((a, b) => b.score - a.score).slice(0, numBeams);
    this.#live = best.filter((hypothesis) => !ends(hypothesis)).slice(0, numBeams);
    const worst = this.#finished[numBeams - 1]?.score;
    const [first] = this.#live;
    this.#hasEnded = isLast || first === undefined || this.#rule.hasEnded(first.sum, length, worst);
  }

  /** The best `2 · numBeams` of all continuations of all live hypotheses. */
  #bestContinuations(candidates: readonly Candidates[]): LiveHypothesis[] {
    const numKept = 2 * this.#settings.numBeams;
    const all = this.#live.flatMap(({ ids, sum }, parent) =>
      processCandidates(candidates[parent]!, ids, this.#settings, false)
        .slice(0, numKept)
        .map(({ id, score }) => ({ parent, id, ids, sum: sum + score })),
    );
    all.sort((a, b) => b.sum - a.sum || a.parent - b.parent || a.id - b.id);
    return all.slice(0, numKept).map(({ parent, id, ids, sum }) => ({ parent, ids: [...ids, id], sum }));
  }

  result(): readonly Hypothesis[] {
    assertInvariant(this.#hasEnded, 'the search has ended');
    const { numReturnSequences } = this.#settings;
    if (this.#finished.length > 0) return this.#finished.slice(0, numReturnSequences);
    // T5X: where nothing finished, the live ones with their sums as they are.
    return this.#live.slice(0, numReturnSequences).map(({ ids, sum }) => ({ ids, score: sum, logProbability: sum }));
  }
}

/** Transformers' rule. */
export function beamSearch(settings: BeamSettings): Search {
  const { numBeams, lengthPenalty, earlyStopping, maxNewTokens } = settings;
  return new BeamSearch(settings, {
    score: (sum, length) => sum / length ** lengthPenalty,
    // Only candidates among the first numBeams may finish.
    entering: (ended, numFinished) =>
      earlyStopping === true && numFinished === numBeams
        ? []
        : ended.filter(([rank]) => rank < numBeams).map(([, hypothesis]) => hypothesis),
    endsAtLimit: true,
    hasEnded: (bestSum, length, worst) => {
      if (worst === undefined) return false;
      const longest = earlyStopping === 'never' && lengthPenalty > 0 ? maxNewTokens : length;
      return earlyStopping === true || bestSum / longest ** lengthPenalty <= worst;
    },
  });
}

/** T5X's rule. */
export function t5xBeamSearch(settings: T5xBeamSettings): Search {
  const { alpha, maxNewTokens } = settings;
  const penalty = (length: number): number => ((5 + length) / 6) ** alpha;
  return new BeamSearch(settings, {
    score: (sum, length) => sum / penalty(length),
    entering: (ended) => ended.map(([, hypothesis]) => hypothesis),
    endsAtLimit: false,
    // The longest hypothesis counts the start token.
    hasEnded: (bestSum, _length, worst) => worst !== undefined && worst > bestSum / penalty(maxNewTokens + 1),
  });
}
