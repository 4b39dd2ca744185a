import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { chooseEngine } from './choose-engine.ts';

describe('choice of the engine', () => {
  test('auto and wasm are wasm, cpu is cpu, each with a reason', () => {
    assert.equal(chooseEngine('auto').backend, 'wasm');
    assert.equal(chooseEngine('wasm').backend, 'wasm');
    assert.equal(chooseEngine('cpu').backend, 'cpu');
    for (const name of ['auto', 'wasm', 'cpu']) assert.match(chooseEngine(name).reason, /^engine (wasm|cpu): .+/);
  });

  test('tensorflow is refused with what to do, and a mistyped name with the nearest ones', () => {
    assert.throws(() => chooseEngine('tensorflow'), { code: 'ENGINE_UNAVAILABLE', message: /--engine wasm/ });
    assert.throws(() => chooseEngine('wsam'), { code: 'NAME_UNKNOWN', message: /did you mean wasm/ });
    assert.throws(() => chooseEngine('something else'), { code: 'NAME_UNKNOWN', message: /known: auto/ });
  });
});
