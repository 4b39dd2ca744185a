/** The record `step committed` of the log: stable names, stated units (docs/logs.md). Pure. */
import type { StepSummary } from './open-steps.ts';
import { formatDigest } from './divergence.ts';

export interface StepFacts {
  /** Since the step before was committed, ms. */
  readonly wallMs: number;
  readonly tokensPerSecond: number;
  readonly worldSize: number;
  readonly generation: number;
  /** Steps of the whole run. */
  readonly steps: number;
  readonly etaSeconds: number;
}

export function stepLogFields(summary: StepSummary, facts: StepFacts): Record<string, unknown> {
  const ms = { ...summary.ms, wall: facts.wallMs };
  return {
    step: summary.step,
    steps: facts.steps,
    loss: summary.loss,
    taskLoss: summary.taskLoss,
    taskTokens: summary.taskTokens,
    zLoss: summary.zLoss,
    gradNorm: summary.gradNorm,
    lr: summary.learningRate,
    inputTokens: summary.inputTokens,
    targetTokens: summary.targetTokens,
    tokensPerSecond: Math.round(facts.tokensPerSecond),
    worldSize: facts.worldSize,
    generation: facts.generation,
    gradDigest: formatDigest(summary.gradDigest),
    ms: Object.fromEntries(Object.entries(ms).map(([phase, value]) => [phase, Math.round(value * 10) / 10])),
    slowestRank: summary.slowestRank,
    etaSeconds: Math.round(facts.etaSeconds),
  };
}
