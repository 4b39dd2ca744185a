/**
 * The search for one example's output: a state machine that is told the likeliest next tokens and says which hypotheses go on.
 *
 * A search knows nothing of other examples, so an example's output cannot depend on its batch.
 */

/** Likeliest next tokens of a hypothesis, by falling log-probability; of equal ones the smaller id first. */
export interface Candidates {
  readonly ids: ArrayLike<number>;
  /** Log-softmax of the model's logits. */
  readonly logProbabilities: ArrayLike<number>;
  /** logsumexp of the logits: a logit is log-probability + logNormalizer. */
  readonly logNormalizer: number;
  /** Log-probability of EOS, then of each token of the hypothesis, in its order. */
  readonly ownLogProbabilities: ArrayLike<number>;
}

/** A hypothesis to go on with: the hypothesis of the step before that it continues, and the token that it appends. */
export interface Continuation {
  /** Index among the continuations of the step before. */
  readonly parent: number;
  readonly token: number;
}

export interface Hypothesis {
  /** Without the start token; EOS included if it ended. */
  readonly ids: readonly number[];
  /** What the method ranks by; the sum of log-probabilities for greedy and sampling. */
  readonly score: number;
  /** Sum of log-probabilities; processed ones where processors changed them (beam search). */
  readonly logProbability: number;
}

export interface Search {
  /** Candidates of each hypothesis that the next `advance` needs; changes with what processors forbid. */
  readonly numCandidates: number;
  /** One for each hypothesis that goes on: at first the start token, parent 0; empty when the search has ended. */
  readonly continuations: readonly Continuation[];
  /** @param candidates of each continuation, in their order */
  advance(candidates: readonly Candidates[]): void;
  /** Best first. @throws if the search has not ended */
  result(): readonly Hypothesis[];
}
