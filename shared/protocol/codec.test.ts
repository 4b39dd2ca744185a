import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeMessage, encodeEach, encodeMessage } from './codec.ts';
import { boundCoordinatorMessages, boundWorkerMessages } from './message-bounds.ts';
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

  test('a field that is undefined is left out, also inside of a list and of messages of parts', () => {
    const spare = { ...heartbeat, residentBytes: undefined } as object;
    assert.deepEqual(encodeMessage(spare), encodeMessage(heartbeat));
    const lanes = [{ lane: 0, rows: Uint8Array.of(1), spare: undefined }];
    const decoded = decodeMessage(coordinatorMessageSchema, encodeMessage({ ...deal, lanes }));
    assert.deepEqual(decoded.kind === 'deal' && Object.keys(decoded.lanes[0]!), ['lane', 'rows']);
    const { kind, ...own } = deal;
    const [parts] = encodeEach({ kind, spare: undefined }, [{ ...own, other: undefined }]);
    assert.equal(decodeMessage(coordinatorMessageSchema, Buffer.concat(parts!)).kind, 'deal');
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

  describe('with the bounds of a run of 8 lanes and 3 tasks', () => {
    const bounds = boundWorkerMessages({ numLanes: 8, numTasks: 3 });
    const decode = (bytes: Uint8Array) => decodeMessage(workerMessageSchema, bytes, bounds);
    const ids = { epoch: 1, generation: 2, step: 3 };
    const digest = 'ab'.repeat(32);

    test('the largest messages of such a run pass', () => {
      const text = '\u20ac'.repeat(256);
      const long = '\u20ac'.repeat(16_384);
      const tasks = [0, 1, 2].map((task) => ({ task, loss: 1e300 / 3, targetTokens: 2 ** 40 }));
      const lanes = Array.from({ length: 8 }, (_, lane) => ({ lane, tasks, zLoss: 1 / 3, inputTokens: 2 ** 40 }));
      const ms = { feed: 1 / 3, compute: 1 / 3, communicate: 1 / 3, update: 1 / 3, total: 1 / 3 };
      const join = { protocolVersion: 3, version: text, workerId: text, host: text, pid: 2 ** 31, processId: text };
      const losses = lanes.flatMap(({ lane }) =>
        [0, 1, 2, null].map((task) => ({ lane, task, loss: '-1.2345678901234567e+308' })),
      );
      const files = Array.from({ length: 5_000 }, (_, i) => ({
        file: `model-${i}-of-99999.safetensors`,
        bytes: 2 ** 40,
        sha256: digest,
      }));
      const engine = { engine: text, engineFingerprint: text, engineNotes: Array.from({ length: 16 }, () => long) };
      for (const message of [
        { kind: 'join', ...join, dataUrl: 'ws://h:1' },
        {
          kind: 'ready',
          epoch: 1,
          held: { runId: text, epoch: 1, step: 1 },
          ...engine,
          mixtureHash: digest,
          numParameters: 1,
        },
        { kind: 'report', ...ids, gradDigest: 1, gradSumOfSquares: 1 / 3, lanes, ms, paramDigest: digest },
        { kind: 'not-finite', ...ids, reason: long, losses, isGradientFinite: true },
        { kind: 'saved', ...ids, files, paramDigest: digest },
        { kind: 'heartbeat', progress: 1, phase: 'compute', step: 1, stall: { reason: long, forMs: 1 / 3 } },
        {
          kind: 'failed',
          epoch: 1,
          generation: 2,
          error: { code: text, message: long },
          peers: [0, 1, 2, 3, 4, 5, 6, 7],
        },
      ])
        assert.equal(decode(encodeMessage(message)).kind, message.kind);
    });

    test('a message over the bound of its kind is MESSAGE_TOO_LARGE, before it is decoded', () => {
      const filler = 'x'.repeat(5_000);
      for (const message of [
        { ...heartbeat, filler: 'x'.repeat(70_000) },
        { kind: 'join', filler },
        { kind: 'formed', epoch: 1, generation: 1, filler },
        { kind: 'nobody', filler },
        { filler },
        { kind: 'report', ...ids, lanes: Array.from({ length: 100_000 }, () => null) },
        { kind: 'heartbeat', filler: Array.from({ length: 100 }, () => 0) },
        { kind: 'saved', filler: Buffer.alloc(15 << 20) },
      ])
        assert.throws(() => decode(encodeMessage(message)), {
          code: 'MESSAGE_TOO_LARGE',
          message: /expected at most \d+ B/,
        });
    });
  });

  test('before the welcome a coordinator can send no large form, and after it one of as many members as lanes', () => {
    const member = {
      workerId: 'w'.repeat(256),
      rank: 1,
      host: 'h'.repeat(256),
      dataUrl: 'u'.repeat(256),
      lanes: { first: 0, end: 1 },
    };
    const form = {
      ...{ kind: 'form', epoch: 1, generation: 1, rank: 0, firstStep: 1, secret: Buffer.alloc(32), receivers: [] },
      ...{ state: { kind: 'held', step: 0 }, proveState: false, members: Array.from({ length: 64 }, () => member) },
    };
    const decode = (numLanes: number) =>
      decodeMessage(coordinatorMessageSchema, encodeMessage(form), boundCoordinatorMessages(numLanes));
    assert.equal(decode(64).kind, 'form');
    assert.throws(() => decode(0), { code: 'MESSAGE_TOO_LARGE' });
  });
});
