/** `exmix doctor --init` by the real command: folders that can be loaded, that cannot, and the prediction of their fine-tuning. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exmix, temporaryFolder } from './exmix-process.ts';

const golden = (name: string): string => fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
const folder = temporaryFolder();

interface FoundFinding {
  readonly check: string;
  readonly status: string;
  readonly detail: string;
  readonly figures?: Readonly<Record<string, number>>;
}

async function diagnose(...args: string[]) {
  const { code, stdout, stderr } = await exmix(['doctor', '--json', '--engine', 'wasm', ...args], join(folder, 'home'));
  const findings = stdout === '' ? [] : (JSON.parse(stdout) as FoundFinding[]);
  return { code, stderr, find: (check: string) => findings.find((finding) => finding.check === check) };
}

describe('exmix doctor --init', () => {
  test('reads a float16 T5 of Hugging Face and predicts its fine-tuning with the state of the optimizer', async () => {
    const model = join(folder, 'model');
    cpSync(golden('load/f16'), model, { recursive: true });
    const adafactor = await diagnose('--init', model);
    assert.equal(adafactor.find('model')?.status, 'ok');
    assert.match(
      adafactor.find('model')!.detail,
      /T5 with relu, 2 \+ 1 blocks, 6352 parameters with digest [0-9a-f]{12}, fresh optimizer/u,
    );
    assert.equal(adafactor.find('tokenizer')?.status, 'warn');
    assert.match(adafactor.find('step')!.detail, /finetune with 2 workers: .* 1000 steps in/u);
    const adamw = await diagnose('--init', model, '--set', 'optimizer.kind=adamw', '--workers', '1');
    const { numParameters } = adamw.find('model')!.figures!;
    assert.equal(adamw.find('fit')!.figures!['optimizerBytes'], 8 * numParameters!, 'two moments in float32');
    assert.ok(adafactor.find('fit')!.figures!['optimizerBytes']! < 8 * numParameters!);
  });

  test('the tokenizer of the folder is loaded, and one that is larger than the model is a failure', async () => {
    const model = join(folder, 'with-tokenizer');
    cpSync(golden('load/f16'), model, { recursive: true });
    writeFileSync(join(model, 'spiece.model'), readFileSync(golden('sentencepiece/spiece.model')));
    const { code, find } = await diagnose('--init', model, '--preset', 'demo');
    assert.equal(code, 1);
    assert.match(find('tokenizer')!.detail, /spiece\.model: \d+ ids, the model has \d+/u);
    assert.equal(find('tokenizer')?.status, 'fail');
    assert.match(find('step')!.detail, /^demo with 2 workers/u);
  });

  test('values that are not finite are a failure, and a folder without safetensors is refused with what to do', async () => {
    const damaged = await diagnose('--init', golden('load/not-finite'));
    assert.equal(damaged.code, 1);
    assert.match(damaged.find('model')!.detail, /^CHECKPOINT_MISMATCH: /u);
    const pickle = await diagnose('--init', golden('load/pickle-only'));
    assert.equal(pickle.code, 2);
    assert.match(pickle.stderr, /PATH_UNUSABLE: .*safetensors/u);
  });
});
