/** Runs on disk, as a coordinator writes them, without workers. As a process of its own: commits until it is killed. */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { systemClock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { BEGINNING, createDealer, type StepDealer } from '../deal/step-dealer.ts';
import { createStepRecorder } from '../step/record-step.ts';
import type { StepSummary } from '../step/open-steps.ts';
import { openRun, type OpenRun, type OpenRunInit } from '../resume/open-run.ts';
import { journalCursor } from '../deal/rate-changes.ts';

export const MIXTURE_HASH = 'cd'.repeat(32);
const TOKENIZER_HASH = 'ef'.repeat(32);
const MS = { feed: 1, compute: 1, communicate: 1, update: 1, total: 4 };

export function mixtureOf(hash = MIXTURE_HASH): PreparedMixture {
  const tasks = [40, 30].map((numExamples, task) => ({
    name: 'ab'[task]!,
    kind: 'supervised' as const,
    numExamples,
    inputsLength: (index: number) => 3 + (index % 5),
    targetsLength: () => 2,
  }));
  const facts = { folder: '/prepared', hash, tokenizer: { hash: TOKENIZER_HASH }, taskNames: ['a', 'b'] };
  return { ...facts, tasks, sizes: tasks } as unknown as PreparedMixture;
}

/** @param changes of the whole configuration, by section */
export function configOf(changes: Readonly<Record<string, unknown>> = {}): RunConfig {
  return checkConfig(
    {
      name: 'test',
      model: {},
      featureLengths: { inputs: 16, targets: 8 },
      mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 32 },
      training: { steps: 50, rowsPerStep: 4, numLanes: 2, microbatchRows: 1 },
      schedule: { kind: 'constant', value: 0.01 },
      ...changes,
    },
    'the test',
  );
}

export function open(init: Partial<OpenRunInit>): Promise<OpenRun> {
  return openRun({
    config: configOf(),
    mixture: mixtureOf(),
    clock: systemClock,
    signal: new AbortController().signal,
    gentle: new AbortController().signal,
    onLockWait: () => undefined,
    requiredBytes: 1,
    allowMixtureChange: false,
    ...init,
  });
}

/** The dealer of a run; default: from its beginning. */
export function dealerOf(start: Partial<OpenRun['start']> = {}): StepDealer {
  return createDealer({ config: configOf(), mixture: mixtureOf() }, { ...BEGINNING, ...start });
}

export const MEMBERS = ['w0', 'w1'];

/** Forms a generation and commits steps up to `to`. @param onCommit called after each commit, and awaited */
export async function train(
  run: OpenRun,
  to: number,
  onCommit: (step: number) => unknown = () => undefined,
): Promise<void> {
  const { journal, ledger, epoch, start } = run;
  const record = createStepRecorder(ledger, mixtureOf().tasks);
  const lanes: [number, number][] = [
    [0, 1],
    [1, 2],
  ];
  await journal.append({
    kind: 'generation-formed',
    epoch,
    generation: 1,
    firstStep: start.step + 1,
    members: MEMBERS,
    lanes,
  });
  const dealer = dealerOf(start);
  while (dealer.step < to) {
    const deal = await dealer.deal();
    const { step, learningRate, targetTokens, cursor } = deal;
    const losses = { loss: 1, zLoss: 0, taskLoss: {}, taskTokens: {}, gradNorm: 1, gradDigest: step, ms: MS };
    const summary: StepSummary = { step, learningRate, targetTokens, ...losses, inputTokens: 1, slowestRank: 0 };
    await record(summary, deal, 1);
    const ids = { epoch, generation: 1, step };
    await journal.append({ kind: 'step-committed', ...ids, cursor: journalCursor(cursor), gradDigest: step, loss: 1 });
    await onCommit(step);
  }
}

const [, script, runDir] = process.argv;
if (script?.endsWith('open-run.fixture.ts') === true && runDir !== undefined) {
  const run = await open({ runDir });
  await train(run, 1_000_000, (step) => process.stdout.write(`committed ${step}\n`));
}
