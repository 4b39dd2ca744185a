import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describePiece, MAX_PIECE_BYTES, planPieces, type StateTensors } from './state-pieces.ts';
import { makeFilledState, makeState, SIZES, type StateSizes } from './state.fixture.ts';

const sizes: fc.Arbitrary<StateSizes> = fc.record({
  parameters: fc.dictionary(fc.string({ maxLength: 3 }), fc.nat(40)),
  optimizerSlots: fc.dictionary(fc.string({ maxLength: 3 }), fc.nat(40)),
});

describe('planPieces', () => {
  test('numbers parameters before slots, each in name order, whole pieces before the rest', () => {
    const { pieces, numBytes } = planPieces(makeState(SIZES));
    assert.deepEqual(
      pieces.map(({ number, tensor, offsetBytes, bytes }) => [number, tensor, offsetBytes, bytes.byteLength]),
      [
        [0, 'parameter decoder.wo', 0, MAX_PIECE_BYTES],
        [1, 'parameter encoder.norm', 0, 4],
        ...[0, 1, 2, 3, 4].map((i) => [2 + i, 'parameter shared.weight', i * MAX_PIECE_BYTES, MAX_PIECE_BYTES]),
        [7, 'parameter shared.weight', 5 * MAX_PIECE_BYTES, 4],
        [8, 'optimizer slot decoder.wi', 0, 4],
        [9, 'optimizer slot decoder.wo', 0, 68],
        [10, 'optimizer slot encoder.norm', 0, 12],
        [11, 'optimizer slot shared.weight', 0, MAX_PIECE_BYTES],
        [12, 'optimizer slot shared.weight', MAX_PIECE_BYTES, MAX_PIECE_BYTES - 4],
      ],
    );
    assert.equal(numBytes, 8 * MAX_PIECE_BYTES + 4 * 21 + 4);
    assert.equal(describePiece(pieces[7]!), 'piece 7 (parameter shared.weight, 4 B at 5242880)');
  });

  test('covers every byte of every tensor once, in pieces that are not empty and not too long', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 9 }), (given, valuesAPiece) => {
        const state = makeFilledState(given);
        const plan = planPieces(state, 4 * valuesAPiece);
        const found = new Map<string, Uint8Array[]>();
        for (const [i, { number, tensor, bytes, offsetBytes }] of plan.pieces.entries()) {
          assert.equal(number, i);
          assert.ok(bytes.byteLength > 0 && bytes.byteLength <= 4 * valuesAPiece);
          const before = found.get(tensor) ?? [];
          assert.equal(offsetBytes, Buffer.concat(before).length);
          found.set(tensor, [...before, bytes]);
        }
        let numBytes = 0;
        for (const [kind, set] of [
          ['parameter', state.parameters],
          ['optimizer slot', state.optimizerSlots],
        ] as const)
          for (const [name, values] of set) {
            const pieces = Buffer.concat(found.get(`${kind} ${name}`) ?? []);
            assert.ok(pieces.equals(new Uint8Array(values.buffer)));
            numBytes += values.byteLength;
          }
        assert.equal(plan.numBytes, numBytes);
      }),
    );
  });

  test('does not depend on the order of the tensors, and its layout differs between models', () => {
    const state = makeState(SIZES);
    const reversed: StateTensors = {
      parameters: new Map([...state.parameters].reverse()),
      optimizerSlots: new Map([...state.optimizerSlots].reverse()),
    };
    const plan = planPieces(state);
    assert.deepEqual(planPieces(reversed), plan);
    const others: StateSizes[] = [
      { parameters: SIZES.optimizerSlots, optimizerSlots: SIZES.parameters },
      { ...SIZES, parameters: { ...SIZES.parameters, bias: 1 } },
      { ...SIZES, optimizerSlots: { ...SIZES.optimizerSlots, bias: 0 } },
    ];
    const layouts = [plan, ...others.map((other) => planPieces(makeState(other)))].map(({ layout }) => layout);
    assert.equal(new Set(layouts).size, 4);
    const small = makeState({ parameters: { b: 2, a: 0 }, optimizerSlots: { b: 1 } });
    assert.equal(planPieces(small).layout, crc32('parameter a 0\nparameter b 8\noptimizer slot b 4\n'));
  });

  test('rejects pieces that would cut a value', () => {
    assert.throws(() => planPieces(makeState(SIZES), 6), { code: 'INTERNAL' });
  });
});
