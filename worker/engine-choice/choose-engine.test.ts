import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InstalledEngine } from '../../shared/installed-engine.ts';
import { checkEngineName, chooseEngine, type EngineFacts } from './choose-engine.ts';

const NOTHING: EngineFacts = { installed: undefined, damaged: [], numGpus: 0, gpuEvidence: 'no /dev/nvidia* here' };

function installed(flavour: 'cpu' | 'cuda'): InstalledEngine {
  const manifest = { flavour, tensorflowVersion: '2.21.0' } as InstalledEngine['manifest'];
  const files = { addonPath: '/e/x/a.node', sessionAddonPath: '/e/x/s.node' };
  return { id: 'x', folder: '/e/x', flavour, tensorflowVersion: '2.21.0', ...files, manifest };
}

const CPU_ONLY: EngineFacts = { ...NOTHING, installed: installed('cpu') };
const GPU_HOST: EngineFacts = { ...NOTHING, numGpus: 2, gpuEvidence: '/dev/nvidia*' };

describe('choice of the engine', () => {
  test('auto is native when installed, else wasm with advice for more speed', () => {
    const fast = chooseEngine({ name: 'auto', device: 'auto' }, CPU_ONLY);
    assert.deepEqual([fast.engine, fast.device, fast.notes], ['native', 'cpu', []]);
    assert.match(fast.reason, /TensorFlow 2\.21\.0, cpu\) on the CPU: it is installed/u);
    const slow = chooseEngine({ name: 'auto', device: 'auto' }, NOTHING);
    assert.equal(slow.engine, 'wasm');
    assert.match(slow.reason, /exmix engine install brings it/u);
  });

  test('a requested engine is chosen, without warnings when nothing is wrong', () => {
    for (const name of ['wasm', 'cpu', 'native'] as const) {
      const choice = chooseEngine({ name, device: 'auto' }, CPU_ONLY);
      assert.deepEqual([choice.engine, choice.notes], [name, []]);
      assert.match(choice.reason, /asked for by name/u);
    }
  });

  test('a GPU is used by the cuda flavour, unless the CPU was asked for', () => {
    const facts = { ...GPU_HOST, installed: installed('cuda') };
    for (const [device, expected, isRequired] of [
      ['auto', 'gpu', false],
      ['gpu', 'gpu', true],
      ['cpu', 'cpu', false],
    ] as const) {
      const choice = chooseEngine({ name: 'auto', device }, facts);
      assert.ok(choice.engine === 'native');
      assert.deepEqual([choice.device, choice.isGpuRequired, choice.notes], [expected, isRequired, []]);
    }
  });

  for (const [what, name, facts, advice] of [
    ['no native engine', 'auto', GPU_HOST, /exmix engine install --flavour cuda/u],
    ['the cpu flavour', 'auto', { ...GPU_HOST, installed: installed('cpu') }, /exmix engine install --flavour cuda/u],
    ['wasm by name', 'wasm', { ...GPU_HOST, installed: installed('cuda') }, /--engine native/u],
  ] as const) {
    test(`a GPU of the host that stays unused is a loud warning under auto: ${what}`, () => {
      const { notes } = chooseEngine({ name, device: 'auto' }, facts);
      const loud = notes.filter((note) => note.startsWith('THE GPU IS NOT USED'));
      assert.equal(loud.length, 1);
      assert.match(loud[0]!, advice);
      assert.match(loud[0]!, /this host shows 2 \(\/dev\/nvidia\*\)/u);
    });
    test(`a GPU asked for that the engine cannot use is an error: ${what}`, () => {
      assert.throws(() => chooseEngine({ name, device: 'gpu' }, facts), {
        code: 'ENGINE_UNAVAILABLE',
        message: advice,
      });
    });
    test(`no warning about the GPU when the CPU was asked for: ${what}`, () => {
      const { notes } = chooseEngine({ name, device: 'cpu' }, facts);
      assert.ok(!notes.some((note) => note.includes('GPU')), notes.join());
    });
  }

  test('a GPU asked for on a host without one names the places searched', () => {
    const facts = { ...NOTHING, installed: installed('cuda') };
    const message = /--device gpu: no GPU is visible \(no \/dev\/nvidia\* here\)/u;
    assert.throws(() => chooseEngine({ name: 'native', device: 'gpu' }, facts), {
      code: 'ENGINE_UNAVAILABLE',
      message,
    });
  });

  test('an absent or damaged native engine is refused with advice; auto skips a damaged one with a warning', () => {
    const code = 'ENGINE_UNAVAILABLE';
    const native = { name: 'native', device: 'auto' } as const;
    assert.throws(() => chooseEngine(native, NOTHING), {
      code,
      message: /is not installed; run exmix engine install/u,
    });
    const damaged = { ...NOTHING, damaged: ['x: a.so is missing'] };
    assert.throws(() => chooseEngine(native, damaged), { code, message: /x: a\.so is missing/u });
    const choice = chooseEngine({ name: 'auto', device: 'auto' }, damaged);
    assert.equal(choice.engine, 'wasm');
    assert.match(choice.reason, /the installed native engine cannot be used/u);
    assert.match(choice.notes[0]!, /passed over: x: a\.so is missing/u);
  });

  test('a mistyped name is refused with the nearest ones', () => {
    assert.throws(() => checkEngineName('wsam'), { code: 'NAME_UNKNOWN', message: /did you mean wasm/u });
    assert.throws(() => checkEngineName('something else'), { code: 'NAME_UNKNOWN', message: /known: auto, native/u });
  });
});
