import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { InstalledEngine } from '../../shared/installed-engine.ts';
import type { EngineFacts } from '../../worker/engine-choice/choose-engine.ts';
import { resolveCompute } from './resolve-compute.ts';

const COMPUTE: RunConfig['compute'] = {
  engine: 'auto',
  device: 'auto',
  threads: 1,
  precision: 'float32',
  xla: false,
  allowTf32: false,
};
const WITHOUT: EngineFacts = { installed: undefined, damaged: [], numGpus: 0, gpuEvidence: 'none' };
const INSTALLED = { id: 'x', flavour: 'cpu', tensorflowVersion: '2.21.0' } as InstalledEngine;
const WITH: EngineFacts = { ...WITHOUT, installed: INSTALLED };

describe('resolved compute settings', () => {
  test('auto becomes the name of an engine, and the default thread count does not depend on the number of workers', () => {
    for (const numWorkers of [1, 2, 3]) {
      const { compute, reason } = resolveCompute(COMPUTE, { facts: WITH, numWorkers, numCores: 16 });
      assert.deepEqual([compute.engine, compute.threads], ['native', 1]);
      assert.match(reason, /engine native .*; 1 thread a worker/u);
    }
    assert.equal(resolveCompute(COMPUTE, { facts: WITHOUT, numWorkers: 2, numCores: 2 }).compute.engine, 'wasm');
  });

  test('0 threads become an equal share of the cores, at least 1', () => {
    for (const [numWorkers, numCores, expected] of [
      [3, 16, 5],
      [1, 16, 16],
      [8, 2, 1],
    ] as const) {
      const { compute } = resolveCompute({ ...COMPUTE, threads: 0 }, { facts: WITH, numWorkers, numCores });
      assert.equal(compute.threads, expected);
    }
  });

  test('the reason reports idle cores and how to use them', () => {
    const reason = (compute: RunConfig['compute'], facts: EngineFacts, numWorkers: number) =>
      resolveCompute(compute, { facts, numWorkers, numCores: 16 }).reason;
    assert.match(reason(COMPUTE, WITH, 2), /2 of 16 cores compute: --workers 16 .* compute\.threads=8 \(other bits\)/u);
    assert.match(reason({ ...COMPUTE, engine: 'wasm' }, WITH, 2), /2 of 16 cores compute: --workers 16 [^,]*$/u);
    assert.doesNotMatch(reason({ ...COMPUTE, threads: 8 }, WITH, 2), /cores compute/u);
    assert.doesNotMatch(reason({ ...COMPUTE, engine: 'wasm' }, WITH, 16), /cores compute/u);
  });

  test('a warning that every worker logs is not repeated; damage that only auto skips is reported', () => {
    const facts = { ...WITHOUT, numGpus: 1, damaged: ['x: broken'] };
    const { notes, reason } = resolveCompute(COMPUTE, { facts, numWorkers: 2, numCores: 2 });
    assert.deepEqual(notes, ['installed engine passed over: x: broken']);
    assert.match(reason, /exmix engine install/u);
  });

  test('a requested GPU that is missing fails before any worker starts', () => {
    const host = { facts: WITHOUT, numWorkers: 1, numCores: 1 };
    assert.throws(() => resolveCompute({ ...COMPUTE, device: 'gpu' }, host), { code: 'ENGINE_UNAVAILABLE' });
  });
});
