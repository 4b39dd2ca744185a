import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, test } from 'node:test';
import { ALL_FAULTS } from './schedule.ts';

const STORM = fileURLToPath(new URL('./storm.ts', import.meta.url));
const NUM_SCHEDULES = 2_800;
/** Each is a process of its own: one driver of virtual time at a time. */
const NUM_PROCESSES = 2;

describe('storm of faults', () => {
  test(`${NUM_SCHEDULES} random schedules break no rule, and every kind of fault happens`, async (t) => {
    const count = NUM_SCHEDULES / NUM_PROCESSES;
    const startMs = performance.now();
    const outputs = await Promise.all(
      Array.from({ length: NUM_PROCESSES }, async (_, i) => {
        const args = ['--import', 'tsx', STORM, String(i * count), String(count)];
        const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 24 });
        return stdout;
      }),
    );
    for (const output of outputs) {
      assert.match(output, new RegExp(`${count} schedules, 0 failed`, 'u'), output);
      for (const kind of Object.keys(ALL_FAULTS)) assert.match(output, new RegExp(`\\d ${kind}`, 'u'), output);
      t.diagnostic(output.trim());
    }
    t.diagnostic(`${((performance.now() - startMs) / 1000).toFixed(0)} s`);
  });
});
