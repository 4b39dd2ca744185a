import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { checkOrder, type ToldSoFar } from './coordinator-order.ts';

const ids = { epoch: 3, generation: 2 };
const welcome = { epoch: 3, config: {}, preparedFolder: '/p', mixtureHash: 'h', checkpoint: null, step: 0 };
const MESSAGES: readonly CoordinatorMessage[] = [
  { kind: 'welcome', ...welcome },
  { kind: 'form', ...ids, rank: 0, members: [], firstStep: 1 },
  { kind: 'deal', ...ids, step: 1, learningRate: 1, targetTokens: 1, lanes: [] },
  { kind: 'save', ...ids, folder: '/f', writer: 0, numWriters: 1 },
  { kind: 'abort', ...ids, reason: '' },
  { kind: 'finish', reason: '' },
  { kind: 'heartbeat' },
];
const START: ToldSoFar = { isWelcomed: false, epoch: 0, generation: undefined, isFormed: false };
const WELCOMED = { ...START, isWelcomed: true, epoch: 3 };
const FORMING = { ...WELCOMED, generation: 2 };
const FORMED = { ...FORMING, isFormed: true };

const STATES: readonly [string, ToldSoFar, string[]][] = [
  ['at the start', START, ['welcome']],
  ['once welcomed', WELCOMED, ['form']],
  ['while the links are made', FORMING, ['abort']],
  ['once formed', FORMED, ['deal', 'save', 'abort']],
  ['formed, another epoch', { ...FORMED, epoch: 4 }, []],
  ['formed, another generation', { ...FORMED, generation: 1 }, []],
];

describe('order of the coordinator', () => {
  for (const [when, told, allowed] of STATES)
    test(`${when} it may say ${[...allowed, 'finish, heartbeat'].join(', ')}`, () => {
      const taken = MESSAGES.filter((message) => {
        try {
          checkOrder(message, told);
          return true;
        } catch (error) {
          assert.equal((error as { code: string }).code, 'MESSAGE_INVALID');
          return false;
        }
      });
      assert.deepEqual(
        taken.map(({ kind }) => kind),
        [...allowed, 'finish', 'heartbeat'],
      );
    });

  test('what is refused is named with its epoch and generation', () => {
    assert.throws(() => checkOrder(MESSAGES[2]!, { ...FORMED, generation: 7 }), {
      message: 'expected generation 7, the coordinator sent deal of generation 2 of epoch 3',
    });
  });
});
