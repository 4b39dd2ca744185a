import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { planBuckets, planPieces, widenedBytes, type GradientPrecision } from './bucket-plan.ts';

const parameters = fc
  .array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 })
  .map((sizes) => sizes.map((numElements, i) => ({ name: `p${i}`, numElements })));

const precisions = fc.constantFrom<GradientPrecision>('float32', 'bfloat16');

describe('planBuckets', () => {
  test('assigns every parameter one offset, aligned, in order, inside its bucket', () => {
    fc.assert(
      fc.property(parameters, fc.integer({ min: 64, max: 20000 }), precisions, (sizes, bucketBytes, precision) => {
        const plan = planBuckets(sizes, bucketBytes, precision);
        const line = widenedBytes(64, precision);
        let end = 0;
        for (const { offsetBytes, numElements, bucket } of plan.parameters) {
          assert.equal(offsetBytes % line, 0);
          assert.ok(offsetBytes >= end && offsetBytes - end < line);
          end = offsetBytes + 4 * numElements;
          const { startBytes, endBytes } = plan.buckets[bucket]!;
          assert.ok(offsetBytes >= startBytes && end <= endBytes);
        }
        assert.ok(plan.gradientBytes - end < line);
        let start = 0;
        for (const [i, bucket] of plan.buckets.entries()) {
          assert.equal(bucket.index, i);
          assert.equal(bucket.startBytes, start);
          assert.ok(bucket.endBytes > start);
          start = bucket.endBytes;
        }
        assert.equal(start, plan.gradientBytes);
      }),
    );
  });

  test('closes a bucket as soon as it is full', () => {
    const plan = planBuckets(
      [16, 16, 100, 16].map((numElements, i) => ({ name: `p${i}`, numElements })),
      128,
    );
    assert.deepEqual(
      plan.buckets.map(({ startBytes, endBytes }) => [startBytes, endBytes]),
      [
        [0, 128],
        [128, 576],
        [576, 640],
      ],
    );
    assert.equal(plan.gradientBytes, 640);
  });

  test('rejects empty, repeated and nonsensical input', () => {
    const one = [{ name: 'a', numElements: 1 }];
    const attempts = [
      () => planBuckets([], 64),
      () => planBuckets([...one, ...one], 64),
      () => planBuckets([{ name: 'a', numElements: 0 }], 64),
      () => planBuckets(one, 63),
      () => planPieces(planBuckets(one, 64), 1, 100),
      () => planPieces(planBuckets(one, 64), 1, 0),
    ];
    for (const attempt of attempts) assert.throws(attempt, { code: 'CONFIG_INVALID' });
  });
});

describe('planPieces', () => {
  test('pieces are a partition of every bucket, aligned, with payloads no longer than a frame, even over ranks', () => {
    fc.assert(
      fc.property(
        parameters,
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 20 }),
        precisions,
        (sizes, worldSize, lines, precision) => {
          const plan = planBuckets(sizes, 8192, precision);
          const line = widenedBytes(64, precision);
          const pieces = planPieces(plan, worldSize, lines * 64);
          assert.equal(pieces.length, worldSize);
          for (const { index, startBytes, endBytes } of plan.buckets) {
            let end = startBytes;
            const chunkBytes: number[] = [];
            for (let chunk = 0; chunk < worldSize; chunk++) {
              const own = pieces[chunk]!.filter(({ bucket }) => bucket === index);
              for (const [i, { part, offsetBytes, byteLength, payloadBytes }] of own.entries()) {
                assert.equal(part, i);
                assert.equal(offsetBytes, end);
                assert.ok(payloadBytes > 0 && payloadBytes <= lines * 64 && payloadBytes % 64 === 0);
                assert.equal(byteLength, widenedBytes(payloadBytes, precision));
                end += byteLength;
              }
              chunkBytes.push(own.reduce((sum, { byteLength }) => sum + byteLength, 0));
            }
            assert.equal(end, endBytes);
            assert.ok(Math.max(...chunkBytes) - Math.min(...chunkBytes) <= line);
          }
        },
      ),
    );
  });
});
