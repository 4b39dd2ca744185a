import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { ReportedStep, StepSummary } from './open-steps.ts';
import type { StepReport } from '../../shared/protocol/messages.ts';
import type { ReadyWorker } from '../membership/roster.ts';
import { Settling } from './step-settlement.ts';
import type { StepDeal } from '../deal/step-dealer.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';

const MS = { feed: 0, compute: 1, communicate: 0, update: 0, total: 1 };
const IDS = ['a', 'b', 'c'];
const PAST: PastGeneration = { epoch: 1, generation: 1, members: IDS };

function dealOf(step: number): StepDeal {
  return { step, learningRate: 1, targetTokens: 3, lanes: [], cursor: {} as StepDeal['cursor'] };
}

function reportOf(step: number, rank: number, gradDigest: number): StepReport {
  const lanes = [{ lane: rank, tasks: [{ task: 0, loss: 1, targetTokens: 1 }], zLoss: 0, inputTokens: 1 }];
  return { kind: 'report', epoch: 1, generation: 1, step, gradDigest, gradSumOfSquares: 1, lanes, ms: MS };
}

/** Step 4 is committed. @param before that generation may still report @param goodUntil of its steps */
function create(before?: PastGeneration, goodUntil = Infinity) {
  const commits: [number, number][] = [];
  const held = new Map<string, number | null>(IDS.map((id) => [id, 4]));
  const distrusted: string[] = [];
  const records: LogRecord[] = [];
  const committer = {
    step: 4,
    commit: ({ step, gradDigest }: StepSummary) => {
      commits.push([step, gradDigest]);
      committer.step = step;
      return Promise.resolve();
    },
  };
  const handles = new Map(IDS.map((workerId) => [workerId, { workerId } as unknown as WorkerHandle]));
  const settling = new Settling({
    config: { training: { numLanes: 3, proveEverySteps: 0 } },
    taskNames: ['t'],
    deals: { get: (step) => Promise.resolve(dealOf(step)), all: () => [5, 6, 7].map(dealOf) },
    committer,
    roster: {
      get ready() {
        return IDS.map((id) => ({ worker: handles.get(id)!, heldStep: held.get(id)! }) as ReadyWorker);
      },
      hold: ({ workerId }, step) => held.set(workerId, step),
      distrust: (workerIds) => {
        distrusted.push(...workerIds);
        for (const workerId of workerIds) held.set(workerId, null);
        return Promise.resolve();
      },
    },
    log: createLogger({ onRecord: (record) => records.push(record) }),
    before,
    goodUntil,
  });
  return { settling, commits, held, distrusted, records };
}

/** A generation of three in whose steps reports are counted. */
function start() {
  const parts = create();
  const steps = parts.settling.begin(PAST);
  for (const step of [5, 6, 7]) steps.deal(dealOf(step));
  /** All ranks report. */
  const report = (step: number, digests: readonly number[]): ReportedStep | undefined =>
    digests.map((digest, rank) => steps.report(rank, reportOf(step, rank, digest))).at(-1);
  return { ...parts, steps, report };
}

describe('Settling', () => {
  test('commits a step that all ranks report alike', async () => {
    const { settling, report, commits, distrusted } = start();
    assert.equal(await settling.commit(report(5, [7, 7, 7])!), undefined);
    assert.deepEqual([commits, distrusted], [[[5, 7]], []]);
  });

  test('commits what two of three have, distrusts the third, and commits no step after it', async () => {
    const { settling, steps, report, commits, held, distrusted, records } = start();
    const divergence = await settling.commit(report(5, [7, 9, 7])!);
    assert.deepEqual(divergence?.outliers, ['b']);
    assert.equal(divergence.error.code, 'GRADIENT_DIVERGED');
    assert.deepEqual([commits, distrusted], [[[5, 7]], ['b']]);
    const [{ msg, step, rank, workerId, expected, found } = records[0]!] = records;
    assert.deepEqual([msg, step, rank, workerId], ['rank differs', 5, 1, 'b']);
    assert.deepEqual([expected, found], ['00000007', '00000009']);

    // b has put wrong gradients into step 6, and a has applied it.
    steps.report(0, reportOf(6, 0, 11));
    held.set('a', 6).set('c', 5);
    await settling.settleFurthest();
    assert.deepEqual([commits.length, held.get('a'), held.get('c')], [1, null, 5]);
  });

  test('commits nothing where no gradient has a majority, and trusts nobody', async () => {
    const { settling, report, commits, held, distrusted, records } = start();
    const divergence = await settling.commit(report(5, [7, 8, 9])!);
    assert.deepEqual([divergence?.outliers, commits, distrusted], [[], [], IDS]);
    assert.deepEqual(
      records.map(({ expected }) => expected),
      [null, null, null],
    );
    held.set('a', 5);
    await settling.settleFurthest();
    assert.deepEqual([commits, held.get('a')], [[], null]);
  });

  test('commits what a survivor has applied from its late report, and not what nobody has reported', async () => {
    const { settling, commits, held } = start();
    settling.takeLate('c', reportOf(5, 2, 7));
    held.set('c', 5).set('a', 6);
    await settling.settleFurthest();
    assert.deepEqual([commits, held.get('c'), held.get('a')], [[[5, 7]], 5, null]);
  });

  test('a step that was spoilt before the coordinator came back counts no more, the one before it does', async () => {
    const { settling, commits, held } = create(PAST, 5);
    for (const [rank, id] of IDS.entries()) {
      settling.takeLate(id, reportOf(5, rank, 7));
      settling.takeLate(id, reportOf(6, rank, 8));
      held.set(id, 6);
    }
    held.set('a', 5);
    await settling.settleFurthest();
    assert.deepEqual([commits, held.get('a'), held.get('b')], [[[5, 7]], 5, null]);
  });

  test('a late report counts no more when another generation has begun, in which that rank is someone else', async () => {
    const { settling, commits, held } = start();
    settling.takeLate('c', reportOf(5, 2, 7));
    settling.begin({ epoch: 1, generation: 2, members: ['a', 'b'] });
    held.set('c', 5);
    await settling.settleFurthest();
    assert.deepEqual([commits, held.get('c')], [[], null]);
  });

  test('late reports that differ commit nothing', async () => {
    const { settling, commits, held } = start();
    settling.takeLate('a', reportOf(5, 0, 7));
    settling.takeLate('c', reportOf(5, 2, 8));
    held.set('a', 5).set('c', 5);
    await settling.settleFurthest();
    assert.deepEqual([commits, held.get('a'), held.get('c')], [[], null, null]);
  });
});
