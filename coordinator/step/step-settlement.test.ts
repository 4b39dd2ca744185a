import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { ReportedStep, StepSummary } from './open-steps.ts';
import type { StepReport } from '../../shared/protocol/messages.ts';
import type { ReadyWorker } from '../membership/roster.ts';
import { StepSettlement } from './step-settlement.ts';
import { UncommittedDeals } from '../deal/uncommitted-deals.ts';
import type { Deal } from '../deal/step-dealer.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';

const MS = { feed: 0, compute: 1, communicate: 0, update: 0, total: 1 };
const IDS = ['a', 'b', 'c'];
const PAST: PastGeneration = { epoch: 1, generation: 1, members: IDS };

function dealOf(step: number): Deal {
  return { step, learningRate: 1, targetTokens: 3, lanes: [], cursor: {} as Deal['cursor'] };
}

function reportOf(step: number, rank: number, gradDigest: number): StepReport {
  const lanes = [{ lane: rank, tasks: [{ task: 0, loss: 1, targetTokens: 1 }], zLoss: 0, inputTokens: 1 }];
  return { kind: 'report', epoch: 1, generation: 1, step, gradDigest, gradSumOfSquares: 1, lanes, ms: MS };
}

/** Step 4 is committed. @param numDealt steps after it @param before that generation may still report @param goodUntil of its steps */
async function create(numDealt: number, before?: PastGeneration, goodUntil = Infinity) {
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
  const dealer = { step: 4, deal: () => Promise.resolve(dealOf(++dealer.step)) };
  const deals = new UncommittedDeals(dealer);
  await deals.dealUpTo(4 + numDealt);
  const settlement = new StepSettlement({
    config: { training: { numLanes: 3, proveEverySteps: 0 }, cluster: { plansAhead: 3 } },
    taskNames: ['t'],
    deals,
    committer,
    roster: {
      get ready() {
        return IDS.map((id) => ({ worker: handles.get(id)!, heldStep: held.get(id)! }) as ReadyWorker);
      },
      setHeldStep: ({ workerId }, step) => held.set(workerId, step),
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
  const dropped: string[] = [];
  /** A worker sends a report after the end of its generation. */
  const sendLate = (workerId: string, report: StepReport): void => {
    const drop = (code: string, reason: string) => dropped.push(`${workerId} ${code}: ${reason}`);
    settlement.receiveLate({ workerId, drop }, report);
  };
  return { settlement, sendLate, dropped, dealer, commits, held, distrusted, records };
}

/** A generation of three in whose steps reports are counted. */
async function start() {
  const parts = await create(3);
  const steps = parts.settlement.begin(PAST);
  for (const step of [5, 6, 7]) steps.open(dealOf(step));
  /** All ranks report. */
  const report = (step: number, digests: readonly number[]): ReportedStep | undefined =>
    digests.map((digest, rank) => steps.receive(rank, reportOf(step, rank, digest))).at(-1);
  return { ...parts, steps, report };
}

describe('step settlement', () => {
  test('commits a step that all ranks report with one digest', async () => {
    const { settlement, report, commits, distrusted } = await start();
    assert.equal(await settlement.commit(report(5, [7, 7, 7])!), undefined);
    assert.deepEqual([commits, distrusted], [[[5, 7]], []]);
  });

  test('commits the gradient of two of three ranks, distrusts the third, and commits no later step', async () => {
    const { settlement, steps, report, commits, held, distrusted, records } = await start();
    const divergence = await settlement.commit(report(5, [7, 9, 7])!);
    assert.deepEqual(divergence?.outliers, ['b']);
    assert.equal(divergence.error.code, 'GRADIENT_DIVERGED');
    assert.deepEqual([commits, distrusted], [[[5, 7]], ['b']]);
    const [{ msg, step, rank, workerId, expected, found } = records[0]!] = records;
    assert.deepEqual([msg, step, rank, workerId], ['rank differs', 5, 1, 'b']);
    assert.deepEqual([expected, found], ['00000007', '00000009']);

    // b has put wrong gradients into step 6, and a has applied it.
    steps.receive(0, reportOf(6, 0, 11));
    held.set('a', 6).set('c', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits.length, held.get('a'), held.get('c')], [1, null, 5]);
  });

  test('commits nothing where no gradient has a majority, and trusts no rank', async () => {
    const { settlement, report, commits, held, distrusted, records } = await start();
    const divergence = await settlement.commit(report(5, [7, 8, 9])!);
    assert.deepEqual([divergence?.outliers, commits, distrusted], [[], [], IDS]);
    assert.deepEqual(
      records.map(({ expected }) => expected),
      [null, null, null],
    );
    held.set('a', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('a')], [[], null]);
  });

  test('commits a step that a survivor has applied from its late report, and no step that nobody has reported', async () => {
    const { settlement, sendLate, commits, held } = await start();
    sendLate('c', reportOf(5, 2, 7));
    held.set('c', 5).set('a', 6);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('c'), held.get('a')], [[[5, 7]], 5, null]);
  });

  test('after a restart a spoilt step does not count, the step before it does', async () => {
    const { settlement, sendLate, commits, held } = await create(0, PAST, 5);
    for (const [rank, id] of IDS.entries()) {
      sendLate(id, reportOf(5, rank, 7));
      sendLate(id, reportOf(6, rank, 8));
      held.set(id, 6);
    }
    held.set('a', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('a'), held.get('b')], [[[5, 7]], 5, null]);
  });

  test('a late report does not count after another generation has begun, in which the rank is another worker', async () => {
    const { settlement, sendLate, commits, held } = await start();
    sendLate('c', reportOf(5, 2, 7));
    settlement.begin({ epoch: 1, generation: 2, members: ['a', 'b'] });
    held.set('c', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('c')], [[], null]);
  });

  test('late reports that differ commit nothing', async () => {
    const { settlement, sendLate, commits, held } = await start();
    sendLate('a', reportOf(5, 0, 7));
    sendLate('c', reportOf(5, 2, 8));
    held.set('a', 5).set('c', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('a'), held.get('c')], [[], null, null]);
  });

  test('drops a worker that reports late and was no member, and keeps nothing of it', async () => {
    const { settlement, sendLate, dropped, commits, held, records } = await start();
    for (let i = 0; i < 10; i++) sendLate('stranger', reportOf(5, 0, i));
    assert.equal(dropped.length, 10);
    assert.match(dropped[0]!, /^stranger MESSAGE_INVALID: .* step 5 of generation 1: expected a report of a member$/u);
    assert.deepEqual([records[0]?.msg, records[0]?.['workerId']], ['late report refused', 'stranger']);
    held.set('a', 5);
    await settlement.settleFurthest();
    assert.deepEqual([commits, held.get('a')], [[], null]);
  });

  test('a report of a step that nobody dealt deals nothing: its worker is dropped', async () => {
    const { settlement, sendLate, dropped, dealer } = await start();
    sendLate('a', reportOf(8, 0, 7));
    sendLate('a', reportOf(1_000, 0, 7));
    assert.match(dropped[0]!, /^a MESSAGE_INVALID: .* expected a step up to 7, the last one dealt$/u);
    assert.equal(dropped.length, 2);
    sendLate('a', reportOf(7, 0, 7));
    await settlement.settleFurthest();
    assert.deepEqual([dropped.length, dealer.step], [2, 7]);
  });

  test('of a coordinator before this one a report counts as far as that one can have dealt, and no further step is dealt', async () => {
    const { settlement, sendLate, dropped, dealer, held, commits, records } = await create(0, PAST);
    for (const step of [5, 6, 7, 8, 1_000]) sendLate('a', reportOf(step, 0, step));
    held.set('a', 1_000).set('b', 7);
    await settlement.settleFurthest();
    assert.deepEqual(dropped, [], 'the configuration of that one may have been another');
    assert.deepEqual(
      records.filter(({ msg }) => msg === 'late report ignored').map(({ step }) => step),
      [8, 1_000],
    );
    assert.deepEqual(
      [dealer.step, commits.map(([step]) => step), held.get('a'), held.get('b')],
      [7, [5, 6, 7], null, 7],
    );
  });

  test('a worker that repeats its late reports is counted once, by its first', async () => {
    const { settlement, sendLate, held, commits } = await start();
    for (const digest of [7, 8, 9]) sendLate('a', reportOf(5, 0, digest));
    held.set('a', 5);
    await settlement.settleFurthest();
    assert.deepEqual(commits, [[5, 7]]);
  });
});
