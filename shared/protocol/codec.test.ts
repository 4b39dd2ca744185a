import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeMessage, encodeEach, encodeMessage } from './codec.ts';
import {
  coordinatorMessageSchema,
  workerMessageSchema,
  type CoordinatorMessage,
  type WorkerMessage,
} from './messages.ts';

const heartbeat: WorkerMessage = { kind: 'heartbeat', progress: 7, phase: 'compute', step: 3 };
const deal: CoordinatorMessage = {
  kind: 'deal',
  epoch: 1,
  generation: 2,
  step: 3,
  learningRate: 0.01,
  targetTokens: 100,
  lanes: [{ lane: 0, rows: Uint8Array.of(1, 2, 3) }],
  proveState: false,
};

describe('control messages', () => {
  test('a message is the same after a round trip, binary fields included', () => {
    assert.deepEqual(decodeMessage(workerMessageSchema, encodeMessage(heartbeat)), heartbeat);
    const decoded = decodeMessage(coordinatorMessageSchema, encodeMessage(deal));
    assert.ok(decoded.kind === 'deal');
    assert.deepEqual(Uint8Array.from(decoded.lanes[0]!.rows), Uint8Array.of(1, 2, 3));
  });

  test('a heartbeat has these bytes', () => {
    const hex = Buffer.from(encodeMessage(heartbeat)).toString('hex');
    assert.equal(hex, '84a46b696e64a9686561727462656174a870726f677265737307a57068617365a7636f6d70757465a47374657003');
  });

  test('messages that differ in some fields are those of encodeMessage, and share the memory of the rest', () => {
    const { kind, learningRate, ...own } = deal;
    const steps = [3, 70_000].map((step) => ({ ...own, step }));
    const messages = encodeEach({ kind, learningRate }, steps);
    const decode = (bytes: Uint8Array) => decodeMessage(coordinatorMessageSchema, bytes);
    for (const [i, parts] of messages.entries())
      assert.deepEqual(decode(Buffer.concat(parts)), decode(encodeMessage({ ...deal, step: steps[i]!.step })));
    assert.equal(messages[0]![0], messages[1]![0]);
  });

  test('messages that share fields have few fields and the same number of own ones, else INTERNAL', () => {
    const many = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`field${i}`, i]));
    for (const [shared, own] of [
      [many, [{ step: 1 }]],
      [{ kind: 'deal' }, [{ step: 1 }, { step: 2, lanes: [] }]],
    ] as const)
      assert.throws(() => encodeEach(shared, own), { code: 'INTERNAL' });
    assert.deepEqual(encodeEach({ kind: 'deal' }, []), []);
  });

  for (const [rule, value, place] of [
    ['an unknown kind', { kind: 'shutdown' }, 'kind'],
    ['a negative counter', { ...heartbeat, progress: -1 }, 'progress'],
    ['a text where a number belongs', { ...heartbeat, step: 'x' }, 'step'],
    ['a missing field', { kind: 'heartbeat', progress: 1, phase: 'compute' }, 'step'],
    ['an unknown phase', { ...heartbeat, phase: 'asleep' }, 'phase'],
    ['a value that is no mapping', [1, 2], '(top)'],
  ] as const) {
    test(`rejects ${rule} and names the place`, () => {
      assert.throws(
        () => decodeMessage(workerMessageSchema, encodeMessage(value)),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'MESSAGE_INVALID');
          assert.ok(error.message.includes(place), error.message);
          return true;
        },
      );
    });
  }

  test('a worker cannot send a message of the coordinator', () => {
    assert.throws(() => decodeMessage(workerMessageSchema, encodeMessage(deal)), { code: 'MESSAGE_INVALID' });
  });

  test('any cut of a message and any random bytes end in MESSAGE_INVALID', () => {
    const bytes = encodeMessage(deal);
    for (let length = 0; length < bytes.byteLength; length++)
      assert.throws(() => decodeMessage(coordinatorMessageSchema, bytes.slice(0, length)), { code: 'MESSAGE_INVALID' });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (random) => {
        assert.throws(() => decodeMessage(workerMessageSchema, random), { code: 'MESSAGE_INVALID' });
      }),
    );
  });
});
