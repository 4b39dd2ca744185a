import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { layOut } from '../machine/machine-folder.fixture.ts';
import { readEngineFacts } from './read-engine-facts.ts';

describe('facts for the choice of the engine', () => {
  test('no engine and no GPU', async (t) => {
    const root = layOut(t, {});
    const facts = await readEngineFacts({ EXMIX_HOME: root }, root);
    assert.deepEqual(facts, { installed: undefined, damaged: [], numGpus: 0, gpuEvidence: 'no /dev/nvidia* here' });
  });

  test('a damaged engine is reported, and GPUs are those that CUDA_VISIBLE_DEVICES shows', async (t) => {
    const root = layOut(t, { 'engines/broken/engine.json': '{', 'dev/nvidia0': '', 'dev/nvidia1': '' });
    const facts = await readEngineFacts({ EXMIX_HOME: root, CUDA_VISIBLE_DEVICES: '1' }, root);
    assert.equal(facts.installed, undefined);
    assert.match(facts.damaged.join(), /broken: engine\.json/u);
    assert.deepEqual([facts.numGpus, facts.gpuEvidence], [1, '/dev/nvidia*, CUDA_VISIBLE_DEVICES is "1"']);
  });
});
