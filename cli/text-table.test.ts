import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNumber, formatTable } from './text-table.ts';

test('columns of numbers are right-aligned, others left-aligned', () => {
  assert.equal(
    formatTable(
      ['task', 'n', 'known'],
      [
        ['a', 12_000, 5],
        ['long name', 3, '-'],
      ],
    ),
    'task            n  known\na          12,000  5\nlong name       3  -\n',
  );
  assert.equal(formatTable(['task', 'n'], []), 'task  n\n');
});

test('numbers are printed to three significant digits unless they are whole', () => {
  assert.deepEqual([1_234_567, 0.123456, 66.6667, 1234.5, 0].map(formatNumber), [
    '1,234,567',
    '0.123',
    '66.7',
    '1,230',
    '0',
  ]);
});
