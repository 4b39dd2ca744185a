/** The native engine's numbers of decoding against those of the reference programs (golden/README.md). */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkJsonFile } from './golden-report.ts';

for (const name of await readdir('golden/generate')) {
  test(`golden/generate/${name} on native: tokens are the same, scores within the tolerance`, async () => {
    const report = await checkJsonFile(join('golden/generate', name), 'native');
    assert.deepEqual(report?.failures, []);
    assert.ok(report.numCases >= 9, `${report.numCases} cases`);
  });
}

test('golden/load on native: each folder gives the reference’s tokens, or is refused', async () => {
  const report = await checkJsonFile('golden/load/expected.json', 'native');
  assert.deepEqual(report?.failures, []);
  assert.equal(report.numCases, 22);
});
