import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { multiplyBatches, type MatrixBatch, type ProductMachine } from './matrix-product.ts';

/** A memory of float32 with a bump allocator, and what was done with it. */
function createMemory(numElements: number): ProductMachine & { values: Float32Array; moved: number; top: number } {
  const values = new Float32Array(numElements);
  return {
    values,
    moved: 0,
    top: 0,
    multiply(a, b, out, m, k, n) {
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let x = 0; x < k; x++) sum += values[a / 4 + i * k + x]! * values[b / 4 + x * n + j]!;
          values[out / 4 + i * n + j] = sum;
        }
    },
    transpose(from, to, rows, columns) {
      this.moved += rows * columns;
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++) values[to / 4 + j * rows + i] = values[from / 4 + i * columns + j]!;
    },
    withScratch(size, use) {
      const address = this.top * 4;
      this.top += size;
      use(address);
      this.top -= size;
    },
  };
}

/** Entry (row, column) of matrix i as the product sees it. */
function entry(memory: Float32Array, batch: MatrixBatch, i: number, row: number, column: number): number {
  const start = batch.address / 4 + (batch.count === 1 ? 0 : i * batch.rows * batch.columns);
  const [r, c] = batch.isTransposed ? [column, row] : [row, column];
  return memory[start + r * batch.columns + c]!;
}

describe('products of batches of matrices', () => {
  test('equal the definition for any sizes, orientations and batches, and leave no scratch memory', () => {
    const size = fc.integer({ min: 1, max: 6 });
    fc.assert(
      fc.property(
        fc.record({ m: size, k: size, n: size, count: fc.integer({ min: 1, max: 3 }) }),
        fc.record({ a: fc.boolean(), b: fc.boolean() }),
        fc.constantFrom('both', 'a once', 'b once'),
        ({ m, k, n, count }, isTransposed, sharing) => {
          const memory = createMemory(4000);
          const side = (rows: number, columns: number, transposed: boolean, isOnce: boolean): MatrixBatch => {
            const [r, c] = transposed ? [columns, rows] : [rows, columns];
            const batch = { address: memory.top * 4, count: isOnce ? 1 : count, rows: r, columns: c };
            memory.top += batch.count * r * c;
            return { ...batch, isTransposed: transposed };
          };
          const a = side(m, k, isTransposed.a, sharing === 'a once');
          const b = side(k, n, isTransposed.b, sharing === 'b once');
          for (let i = 0; i < memory.top; i++) memory.values[i] = ((i * 7919) % 23) - 11; // products are exact integers
          const out = memory.top * 4;
          memory.top += Math.max(a.count, b.count) * m * n;
          const top = memory.top;
          multiplyBatches(memory, a, b, out);
          assert.equal(memory.top, top);
          for (let i = 0; i < Math.max(a.count, b.count); i++)
            for (let row = 0; row < m; row++)
              for (let column = 0; column < n; column++) {
                let expected = 0;
                for (let x = 0; x < k; x++)
                  expected += entry(memory.values, a, i, row, x) * entry(memory.values, b, i, x, column);
                assert.equal(memory.values[out / 4 + (i * m + row) * n + column], expected);
              }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('choose the form that moves less', () => {
    const plain = createMemory(100_000);
    const matrix = (rows: number, columns: number, isTransposed: boolean) => ({
      address: 0,
      count: 1,
      rows,
      columns,
      isTransposed,
    });
    plain.top = 60_000;
    // Few positions, many outputs: x [8, 4] · Wᵀ with W [512, 4] is cheaper as (W · xᵀ)ᵀ when W would have to be transposed and packed.
    multiplyBatches(plain, matrix(8, 4, false), matrix(512, 4, true), 50_000 * 4);
    assert.equal(plain.moved, 8 * 4 + 8 * 512);
    plain.moved = 0;
    multiplyBatches(plain, matrix(512, 4, false), matrix(8, 4, true), 50_000 * 4);
    assert.equal(plain.moved, 8 * 4);
  });

  test('refuse sides that do not fit', () => {
    const memory = createMemory(100);
    const matrix = (rows: number, columns: number, count: number) => ({
      address: 0,
      count,
      rows,
      columns,
      isTransposed: false,
    });
    assert.throws(() => multiplyBatches(memory, matrix(2, 3, 1), matrix(2, 3, 1), 0), { code: 'INTERNAL' });
    assert.throws(() => multiplyBatches(memory, matrix(2, 3, 2), matrix(3, 2, 3), 0), { code: 'INTERNAL' });
  });
});
