import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { encodeRows, type PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { decodeStep, encodeStep, type StepFigures } from './step-record.ts';

/** Any example, also a repeated one or one that its task does not have. */
const anyExample: fc.Arbitrary<PlannedExample> = fc.record(
  {
    task: fc.nat(2),
    index: fc.oneof(fc.nat(5), fc.nat(), fc.constant(2 ** 32 - 1)),
    epoch: fc.oneof(fc.nat(2), fc.nat(), fc.constant(2 ** 32 - 1)),
  },
  { noNullPrototype: true },
);
const anyLanes = fc.array(fc.array(fc.array(anyExample, { minLength: 1, maxLength: 5 }), { maxLength: 4 }), {
  maxLength: 3,
});
const anyFigures: fc.Arbitrary<StepFigures> = fc.record(
  {
    step: fc.nat(),
    generation: fc.nat(),
    gradDigest: fc.nat(2 ** 32 - 1),
    loss: fc.double({ noNaN: true }),
    gradNorm: fc.float({ noNaN: true }),
    learningRate: fc.double({ noNaN: true }),
    tasks: fc
      .uniqueArray(
        fc.record(
          {
            task: fc.nat(300),
            numExamples: fc.nat(),
            inputTokens: fc.oneof(fc.nat(), fc.constantFrom(2 ** 53 - 1, 2 ** 52, 2 ** 49 - 1)),
            targetTokens: fc.nat(),
            loss: fc.option(fc.float({ noNaN: true, noDefaultInfinity: true }), { nil: undefined }),
          },
          { noNullPrototype: true },
        ),
        { selector: ({ task }) => task },
      )
      .map((tasks) =>
        tasks
          .sort((a, b) => a.task - b.task)
          .map(({ loss, ...task }) => (loss === undefined ? task : { ...task, loss })),
      ),
  },
  { noNullPrototype: true },
);
const bytesOf = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');

describe('a step as bytes', () => {
  test('has the bytes of the layout', () => {
    const rows = encodeRows([[{ task: 1, index: 300, epoch: 0 }]]);
    const payload = encodeStep({
      ...{ step: 7, generation: 2, gradDigest: 0x83ee386c, loss: 1.5, learningRate: 0.25, gradNorm: 2 },
      tasks: [{ task: 1, numExamples: 1, inputTokens: 300, targetTokens: 4, loss: 0.5 }],
      lanes: [rows, encodeRows([])],
    });
    const head = '07000000 02000000 6c38ee83 000000000000f83f 000000000000d03f 00000040';
    const figures = bytesOf(`${head} 01000000  01 01 ac02 04 0000003f`);
    assert.deepEqual(payload.subarray(0, figures.length), figures);
    const lanes = inflateRawSync(payload.subarray(figures.length));
    assert.deepEqual(lanes, bytesOf('06000000 01 01 01 ac02 00  01000000 00'));
  });

  test('comes back as it was, with any rows and figures', () => {
    fc.assert(
      fc.property(anyFigures, anyLanes, (figures, lanes) => {
        const { readLanes, ...found } = decodeStep(encodeStep({ ...figures, lanes: lanes.map(encodeRows) }), 3);
        assert.deepEqual(found, figures);
        assert.deepEqual(readLanes(), lanes);
      }),
      { numRuns: 300 },
    );
  });

  test('keeps the loss of a task as float32', () => {
    const tasks = [{ task: 0, numExamples: 1, inputTokens: 2, targetTokens: 3, loss: Math.PI }];
    const figures = { step: 1, generation: 1, gradDigest: 0, loss: Math.PI, gradNorm: 1, learningRate: 1 };
    const found = decodeStep(encodeStep({ ...figures, tasks, lanes: [] }), 1);
    assert.deepEqual([found.loss, found.tasks[0]?.loss], [Math.PI, Math.fround(Math.PI)]);
  });

  test('any cut is LEDGER_CORRUPT', () => {
    const tasks = [{ task: 2, numExamples: 7, inputTokens: 70, targetTokens: 9, loss: 0.5 }];
    const figures = { step: 1, generation: 1, gradDigest: 0, loss: 1, gradNorm: 1, learningRate: 1 };
    const lanes = [encodeRows([[{ task: 2, index: 5, epoch: 1 }]])];
    const payload = encodeStep({ ...figures, tasks, lanes });
    for (let length = 0; length < payload.length; length++)
      assert.throws(() => decodeStep(payload.subarray(0, length), 3).readLanes(), { code: 'LEDGER_CORRUPT' });
  });

  for (const [what, lanes] of [
    ['a lane shorter than its length says', '09000000 00'],
    ['a lane whose length does not end', '0900'],
    ['a lane that is no rows', '01000000 05'],
    ['a task that the mixture does not have', '05000000 01 01 03 00 00'],
  ] as const)
    test(`rejects ${what}`, () => {
      const head = Buffer.alloc(36);
      const payload = Buffer.concat([head, deflateRawSync(bytesOf(lanes))]);
      assert.throws(() => decodeStep(payload, 3).readLanes(), { code: 'LEDGER_CORRUPT' });
    });

  test('rejects rows that inflate beyond the limit', () => {
    const payload = Buffer.concat([Buffer.alloc(36), deflateRawSync(Buffer.alloc(64 * 1024 * 1024 + 1))]);
    assert.throws(() => decodeStep(payload, 3).readLanes(), { code: 'LEDGER_CORRUPT' });
  });
});
