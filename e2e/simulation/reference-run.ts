/**
 * Computes the run without faults: the coordinator's dealer deals it, one engine computes it, and gradients are added naively in the
 * canonical tree. It uses no network, collective or journal, so simulated runs are compared with it.
 */
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import { createBatchArrays, fillRow } from '../../mixture/feed/batch.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { BEGINNING, createDealer } from '../../coordinator/deal/step-dealer.ts';
import type { Lanes } from '../../coordinator/ledger/step-record.ts';
import { checksumNaively, sumNaively } from '../../worker/collective/lane-gradients.fixture.ts';
import { planGradient } from '../../worker/collective/plan-gradient.ts';
import { numElements } from '../../worker/model/parameters.ts';
import { initialiseParameters } from '../../worker/model/initialise.ts';
import { ToyEngine } from './toy-engine.ts';

const NO_TIME: Clock = { monotonicMs: () => 0, wallMs: () => 0, sleep: () => Promise.resolve() };

export interface ReferenceStep {
  readonly step: number;
  readonly lanes: Lanes;
  /** Digest of the summed gradient, as ranks report it. */
  readonly gradDigest: number;
  /** Digest of the parameters after the step. */
  readonly paramDigest: string;
}

export interface ReferenceRun {
  /** Digest of the parameters before the first step. */
  readonly startDigest: string;
  /** From step 1 on, without a gap. */
  readonly steps: readonly ReferenceStep[];
  readonly initial: ReadonlyMap<string, Float32Array>;
}

export async function computeReference(config: RunConfig, mixture: PreparedMixture): Promise<ReferenceRun> {
  const { seed, training, featureLengths } = config;
  const engine = new ToyEngine({ config: config.model, clock: NO_TIME, stepMs: () => 0, applyMs: () => 0 });
  const initial = initialiseParameters(engine.parameters, seed);
  await engine.load(initial, 'zero');
  const dealer = createDealer({ config, mixture }, BEGINNING);
  const buckets = planGradient(config);
  const held = new Map(engine.parameters.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
  const steps: ReferenceStep[] = [];
  for (let step = 1; step <= training.steps; step++) {
    const deal = await dealer.deal();
    const lanes = deal.lanes.map(decodeRows);
    const sums: Float32Array<ArrayBuffer>[] = [];
    for (const rows of lanes) {
      const sum = new Float32Array(buckets.gradientBytes / 4);
      for (let row = 0; row < rows.length; row += training.microbatchRows) {
        const batch = createBatchArrays(training.microbatchRows, featureLengths.inputs, featureLengths.targets);
        for (const [i, planned] of rows.slice(row, row + training.microbatchRows).entries())
          await fillRow(batch, i, planned, mixture, seed);
        await engine.step(batch, (parameter, gradient) => {
          const { offsetBytes } = buckets.parameters[buckets.parameters.length - 1 - parameter]!;
          for (const [i, value] of gradient.entries()) sum[offsetBytes / 4 + i]! += value;
        });
      }
      sums.push(sum);
    }
    const gradient = sumNaively(sums);
    const views = buckets.parameters.map(({ offsetBytes, numElements: length }) =>
      gradient.subarray(offsetBytes / 4, offsetBytes / 4 + length),
    );
    const { learningRate, targetTokens } = deal;
    await engine.apply(views.reverse(), { step: step - 1, learningRate, gradientScale: 1 / targetTokens });
    await engine.readBack(held, new Map());
    const gradDigest = checksumNaively(Buffer.from(gradient.buffer, gradient.byteOffset, gradient.byteLength));
    steps.push({ step, lanes, gradDigest, paramDigest: parameterDigest(held) });
  }
  return { startDigest: parameterDigest(initial), steps, initial };
}
