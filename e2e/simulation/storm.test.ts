import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, test } from 'node:test';
import { ALL_FAULTS } from './schedule.ts';

const STORM = fileURLToPath(new URL('./storm.ts', import.meta.url));
const NUM_SCHEDULES = 5_000;
/** Schedules per process: promises of crashed workers never settle and stay in memory. */
const SCHEDULES_EACH = 500;
/** Processes at a time; each has one driver of virtual time. */
const NUM_PROCESSES = 2;

/** Runs the slices of one process, one after the other. @returns the output of each */
async function runSlices(number: number): Promise<string[]> {
  const outputs: string[] = [];
  const stride = NUM_PROCESSES * SCHEDULES_EACH;
  for (let first = number * SCHEDULES_EACH; first < NUM_SCHEDULES; first += stride) {
    const args = ['--import', 'tsx', STORM, String(first), String(SCHEDULES_EACH)];
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 24 });
    outputs.push(stdout);
  }
  return outputs;
}

describe('storm of faults', () => {
  test(`${NUM_SCHEDULES} random schedules break no rule, and every kind of fault happens`, async (t) => {
    const startMs = performance.now();
    const outputs = (await Promise.all(Array.from({ length: NUM_PROCESSES }, (_, i) => runSlices(i)))).flat();
    for (const output of outputs) {
      assert.match(output, new RegExp(`^${SCHEDULES_EACH} schedules, 0 failed`, 'mu'), output);
      t.diagnostic(output.trim());
    }
    for (const kind of Object.keys(ALL_FAULTS)) assert.match(outputs.join('\n'), new RegExp(`\\d ${kind}`, 'u'));
    t.diagnostic(`${((performance.now() - startMs) / 1000).toFixed(0)} s`);
  });
});
