import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { checkOrder, type ReceivedSoFar } from './coordinator-order.ts';

const ids = { epoch: 3, generation: 2 };
const lanes = { rank: 0, members: [], firstStep: 1, receivers: [], secret: new Uint8Array(32), proveState: false };
const welcome = {
  kind: 'welcome' as const,
  epoch: 3,
  runId: 'run',
  config: {},
  preparedFolder: '/p',
  mixtureHash: 'h',
  committedStep: 0,
};
const work = { kind: 'decode' as const, decoding: {}, examples: [], inputs: new Uint8Array(0), inputsLength: 16 };
const save = { kind: 'save' as const, ...ids, step: 1, stateStep: 1, folder: '/f', writer: 0, numWriters: 1 };
const form = { kind: 'form' as const, ...ids, ...lanes, state: { kind: 'held' as const, step: 0 } };
const MESSAGES: readonly CoordinatorMessage[] = [
  welcome,
  form,
  { ...form, generation: 3 },
  { kind: 'deal', ...ids, step: 1, learningRate: 1, targetTokens: 1, lanes: [], proveState: false },
  { kind: 'evaluate', ...ids, generation: 0, batch: 0, work },
  { kind: 'evaluate', ...ids, batch: 0, work },
  { ...save, generation: 0 },
  save,
  { kind: 'abort', ...ids, reason: '' },
  { kind: 'finish', outcome: 'finished', reason: '' },
  { kind: 'heartbeat' },
];
const START: ReceivedSoFar = {
  isWelcomed: false,
  epoch: 0,
  runId: undefined,
  generation: 0,
  isFormed: false,
  isAborted: false,
};
const WELCOMED = { ...START, isWelcomed: true, epoch: 3, runId: 'run' };
const FORMING = { ...WELCOMED, generation: 2 };
const FORMED = { ...FORMING, isFormed: true };
const ABORTED = { ...FORMED, isAborted: true };

const STATES: readonly [string, ReceivedSoFar, string[]][] = [
  ['at the start', START, ['welcome 3']],
  ['once welcomed', WELCOMED, ['form 2', 'form 3', 'evaluate 0', 'save 0', 'save 2']],
  ['while a generation is formed', FORMING, ['form 3', 'abort 2']],
  ['once it is formed', FORMED, ['form 3', 'deal 2', 'evaluate 2', 'save 2', 'abort 2']],
  ['once it is aborted', ABORTED, ['form 3', 'save 2', 'abort 2']],
  ['aborted while it was formed', { ...ABORTED, isFormed: false }, ['form 3', 'save 2', 'abort 2']],
  ['aborted, a later generation', { ...ABORTED, generation: 3 }, ['abort 2']],
  ['formed, another epoch', { ...FORMED, epoch: 4 }, []],
  ['formed, an earlier generation', { ...FORMED, generation: 1 }, ['form 2', 'form 3']],
  ['formed, a later generation', { ...FORMED, generation: 3 }, ['abort 2']],
  ['redialled, in the same epoch', { ...ABORTED, isWelcomed: false }, ['welcome 3']],
  ['redialled, from an earlier epoch', { ...ABORTED, isWelcomed: false, epoch: 2 }, ['welcome 3']],
];

describe('order of the coordinator', () => {
  for (const [when, received, allowed] of STATES)
    test(`${when} the coordinator may send ${[...allowed, 'finish, heartbeat'].join(', ')}`, () => {
      const taken = MESSAGES.filter((message) => {
        try {
          checkOrder(message, received);
          return true;
        } catch (error) {
          assert.equal((error as { code: string }).code, 'MESSAGE_INVALID');
          return false;
        }
      });
      const names = taken.map((message) =>
        'generation' in message
          ? `${message.kind} ${message.generation}`
          : message.kind + ('epoch' in message ? ` ${message.epoch}` : ''),
      );
      assert.deepEqual(names, [...allowed, 'finish', 'heartbeat']);
    });

  test('a coordinator of an epoch that is over, or of another run, is refused', () => {
    const received = { ...ABORTED, isWelcomed: false };
    assert.throws(() => checkOrder({ ...welcome, epoch: 2 }, received), {
      code: 'JOIN_REFUSED',
      message: /expected a coordinator of epoch 3 or later, found one of epoch 2/u,
    });
    assert.throws(() => checkOrder({ ...welcome, runId: 'other', epoch: 9 }, received), {
      code: 'JOIN_REFUSED',
      message: 'expected the coordinator of run run, found that of other',
    });
  });

  test('an evaluation without a run is welcomed as a run is', () => {
    const evaluation = { kind: 'welcome-evaluation' as const, epoch: 3, runId: 'run', config: {}, model: '/m', paramDigest: 'd' }; // prettier-ignore
    checkOrder(evaluation, START);
    assert.throws(() => checkOrder(evaluation, WELCOMED), { code: 'MESSAGE_INVALID', message: /a second/u });
    assert.throws(() => checkOrder({ ...evaluation, runId: 'other' }, { ...WELCOMED, isWelcomed: false }), {
      code: 'JOIN_REFUSED',
    });
  });

  test('a refused message is named with its epoch and generation', () => {
    assert.throws(() => checkOrder(MESSAGES[3]!, { ...FORMED, generation: 7 }), {
      message: 'expected generation 7, the coordinator sent deal of generation 2 of epoch 3',
    });
  });
});
