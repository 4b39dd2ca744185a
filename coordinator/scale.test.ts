/** Many workers: what a step and a generation cost in messages and bytes, by counting. Times are in bench/control-plane.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeMessage } from '../shared/protocol/codec.ts';
import type { ScriptedWorker } from './testing/scripted-worker.fixture.ts';
import { startRun, undisturbed, type SmallRun, type SmallRunInit } from './testing/small-run.fixture.ts';

const STEPS = 4;
/** Bytes of a `form` message for each member, as docs/limits.md has it. */
const FORM_BYTES = 150;
/** The longest sentence that names some of many workers, characters. */
const MAX_REASON = 1_000;

interface Crowd {
  readonly run: SmallRun;
  readonly workers: ScriptedWorker[];
  /** Messages that workers have sent, by kind; heartbeats are not counted. */
  readonly sent: Map<string, number>;
}

async function startCrowd(numWorkers: number, init: SmallRunInit): Promise<Crowd> {
  const sent = new Map<string, number>();
  const { run, workers } = await startRun(
    Array.from({ length: numWorkers }, () => ({
      heartbeatMs: 1_000,
      edit: (message) => {
        if (message.kind !== 'heartbeat') sent.set(message.kind, (sent.get(message.kind) ?? 0) + 1);
        return message;
      },
    })),
    init,
  );
  return { run, workers, sent };
}

function initOf(numLanes: number, minWorkers: number): SmallRunInit {
  const training = { numLanes, rowsPerStep: numLanes };
  return { training, steps: STEPS, checkpoint: {}, cluster: { minWorkers, startWorkers: minWorkers } };
}

function numSeen(workers: readonly ScriptedWorker[], kind: string): number {
  return workers.reduce((sum, { seen }) => sum + seen.filter((message) => message.kind === kind).length, 0);
}

function assertShortReasons({ log }: SmallRun): void {
  for (const { msg, reason } of log) assert.ok(String(reason).length <= MAX_REASON, `${msg}: ${String(reason)}`);
}

describe('many workers', () => {
  for (const [numWorkers, numLanes] of [
    [50, 64],
    [200, 256],
  ] as const)
    test(`${numWorkers} workers cost ${numWorkers} times the messages of one, and one more for each generation`, async () => {
      const { run, workers, sent } = await startCrowd(numWorkers, initOf(numLanes, numWorkers));
      await run.runToEnd();
      const once = { join: numWorkers, ready: numWorkers, formed: numWorkers, saved: numWorkers };
      assert.deepEqual(Object.fromEntries(sent), { ...once, report: STEPS * numWorkers });
      const received = ['welcome', 'form', 'deal', 'save', 'finish'].map((kind) => numSeen(workers, kind));
      assert.deepEqual(
        received,
        [1, 1, STEPS, 1, 1].map((each) => each * numWorkers),
      );
      const form = workers[0]!.seen.find(({ kind }) => kind === 'form')!;
      assert.ok(encodeMessage(form).byteLength <= FORM_BYTES * numWorkers);
      assertShortReasons(run);
      // Who is waited for changes with every worker, and is told as often as the coordinator looks.
      assert.ok(run.messages('waiting').length < numWorkers);
    });

  test('a thousand form, train, lose one, form again, and end with the bits of one', async () => {
    const numWorkers = 1_000;
    const init = initOf(1_024, 1);
    const { run, workers, sent } = await startCrowd(numWorkers, {
      ...init,
      cluster: { minWorkers: 1, startWorkers: numWorkers },
      onLog: ({ msg, step }) => {
        if (msg === 'step committed' && step === 2) workers[499]!.die();
      },
    });
    await run.runToEnd();
    assert.deepEqual(
      run.records('generation-formed').map(({ members }) => members.length),
      [numWorkers, numWorkers - 1],
    );
    assert.deepEqual(run.committed, await undisturbed(init));
    const survivors = workers.filter((_, i) => i !== 499);
    assert.equal(new Set(survivors.map(({ digest }) => digest)).size, 1);
    assert.equal(numSeen(survivors, 'abort'), numWorkers - 1);
    assert.equal(sent.get('formed'), 2 * numWorkers - 1);
    assertShortReasons(run);
  });
});
