/** One generation over a data plane that the test plays: what comes after its end must not be heard. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { WorkerMessage } from '../../shared/protocol/messages.ts';
import type { Collective } from '../collective/all-reduce.ts';
import type { Arena } from '../arena/arena.ts';
import type { StepResult } from '../collective/step-tally.ts';
import type { Formed } from './data-plane.ts';
import { GenerationSession, type GenerationSessionInit } from './generation-session.ts';
import type { NetworkEvent } from './network-messages.ts';
import { formOf, ids, nobody, RAW_CONFIG } from './network-session.fixture.ts';

const config = checkConfig(RAW_CONFIG, 'the test');
const tensors = { parameters: new Map<string, Float32Array>(), optimizerSlots: new Map<string, Float32Array>() };
const turn = () => new Promise(setImmediate);

/** A promise and its ends. */
function pending<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: TrainerError) => void;
  const promise = new Promise<T>((onResolve, onReject) => ([resolve, reject] = [onResolve, onReject]));
  return { promise, resolve, reject };
}

function make() {
  const calls: string[] = [];
  const [formed, copied, step, failed] = [
    pending<Formed>(),
    pending<undefined>(),
    pending<StepResult>(),
    pending<TrainerError>(),
  ];
  const collective = {
    failed: failed.promise,
    closed: Promise.resolve(),
    startStep: () => step.promise,
    close: () => void calls.push('collective closed'),
  } as unknown as Collective;
  const dataPlane: GenerationSessionInit['dataPlane'] = {
    form: () => formed.promise,
    copyState: () => copied.promise,
    offerState: () => void calls.push('offered'),
    withdrawState: () => void calls.push('withdrawn'),
  };
  const record = ({ kind }: NetworkEvent | WorkerMessage): void => void calls.push(kind);
  const form = formOf([{ ...nobody, rank: 0 }], 0, { state: { kind: 'peers', ranks: [1] } });
  const generation = new GenerationSession({
    form,
    config,
    dataPlane,
    emit: (event) => record(event),
    send: (message) => calls.push(`${message.kind} sent`),
  });
  void generation.form();
  const result: StepResult = { digest: 1, sumOfSquares: 2, firstNonFiniteBytes: null, buckets: [] };
  const arena = { memory: null, layout: null } as unknown as Arena;
  return { generation, calls, formed: { arena, collective }, end: { formed, copied, step, failed }, result };
}

/** One that is formed. */
async function makeFormed() {
  const made = make();
  made.generation.stateInPlace({ kind: 'state-in-place', generation: ids.generation });
  made.end.formed.resolve(made.formed);
  await turn();
  return made;
}

describe('generation session', { timeout: 240_000 }, () => {
  test('it is formed when links and state are there, in whatever order', async () => {
    const first = make();
    first.end.formed.resolve(first.formed);
    await turn();
    assert.deepEqual([first.calls, first.generation.isFormed], [[], false]);
    first.generation.stateInPlace({ kind: 'state-in-place', generation: 2 });
    await turn();
    assert.deepEqual([first.calls, first.generation.isFormed], [['formed', 'formed sent'], true]);
    const second = make();
    second.generation.stateInPlace({ kind: 'state-in-place', generation: 2 });
    await turn();
    assert.deepEqual(second.calls, []);
    second.end.formed.resolve(second.formed);
    await turn();
    assert.deepEqual(second.calls, ['formed', 'formed sent']);
  });

  test('the first failure is reported once, to both sides', async () => {
    const { generation, calls, end } = await makeFormed();
    generation.beginStep(1);
    end.step.reject(new TrainerError('COLLECTIVE_TIMEOUT', 'as the test wants'));
    end.failed.resolve(new TrainerError('COLLECTIVE_TIMEOUT', 'as the test wants'));
    await turn();
    assert.deepEqual(calls, ['formed', 'formed sent', 'generation-failed', 'failed sent']);
    assert.ok(!generation.isOver, 'the coordinator decides');
  });

  test('a mesh that connects after the end is closed, and nothing is reported', async () => {
    const { generation, calls, end, formed } = make();
    generation.stateInPlace({ kind: 'state-in-place', generation: 2 });
    generation.end('aborted');
    end.formed.resolve(formed);
    await turn();
    assert.deepEqual(calls, ['withdrawn', 'collective closed']);
    assert.ok(!generation.isFormed);
  });

  test('a state that is copied only after the end is not the next generation’s', async () => {
    const { generation, calls, end } = make();
    void generation.copyState({ kind: 'copy-state', step: 0, tensors });
    generation.end('aborted');
    end.copied.resolve(undefined);
    await turn();
    assert.deepEqual(calls, ['withdrawn']);
  });

  test('a sum that is there only after the end is not applied', async () => {
    const { generation, calls, end, result } = await makeFormed();
    generation.beginStep(1);
    generation.end('aborted');
    end.step.resolve(result);
    await turn();
    assert.deepEqual(calls, ['formed', 'formed sent', 'collective closed', 'withdrawn']);
  });

  test('a failure after the end is not reported', async () => {
    const { generation, calls, end } = await makeFormed();
    generation.beginStep(1);
    void generation.copyState({ kind: 'copy-state', step: 0, tensors });
    generation.end('aborted');
    generation.end('again');
    const error = new TrainerError('CONNECTION_LOST', 'as the test wants');
    end.step.reject(error);
    end.copied.reject(error);
    end.failed.resolve(error);
    await turn();
    assert.deepEqual(calls, ['formed', 'formed sent', 'collective closed', 'withdrawn']);
  });

  test('the first deal says that nobody copies the state any more', async () => {
    const { generation, calls } = await makeFormed();
    generation.offerState({ kind: 'offer-state', step: 0, tensors });
    generation.startTraining();
    assert.deepEqual(calls.slice(2), ['offered', 'withdrawn']);
  });
});
