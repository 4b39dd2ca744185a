import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { CUT_CHARACTER, ExampleEncoder } from './example-encoder.ts';

const path = new URL('../../golden/sentencepiece-bytes/spiece.model', import.meta.url);

test('a text that a task module cut inside a character is malformed, and never U+FFFD', () => {
  const tokenizer = createTokenizer(readFileSync(path), 'spiece.model');
  const encoder = new ExampleEncoder(tokenizer, { inputs: 32, targets: 32 });
  const cut = 'so 😀'.slice(0, -1);
  assert.deepEqual(encoder.encode({ inputs: cut, targets: 'x' }), { ok: false, reason: `inputs: ${CUT_CHARACTER}` });
  assert.deepEqual(encoder.encode({ inputs: 'x', targets: cut }), { ok: false, reason: `targets: ${CUT_CHARACTER}` });
  const whole = encoder.encode({ inputs: 'so 😀', targets: 'x' });
  assert.ok(whole.ok);
  assert.equal(tokenizer.decode(whole.tokens.subarray(0, whole.inputsLength)), 'so 😀');
});
