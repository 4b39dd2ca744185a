/**
 * The round trip of a T5 of Transformers: bench/peers/make_flan.py makes a small random flan in float16, `exmix finetune` trains it on a task of
 * the demo, `exmix checkpoint export` writes it in float16 and float32, and bench/export-loss.ts compares the losses of Transformers and exmix.
 *
 *   node --import tsx bench/flan-round-trip.ts --python PYTHON [--steps 8] [--task country_qa] [--engine wasm] [--workers 2]
 *
 * Exit status 1 where a step of it fails, where training has not changed the weights, or where the losses differ by more than 1e-4 nats.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { readModel } from '../worker/model/read-model.ts';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const [MAKE, EXMIX, LOSS] = [at('peers/make_flan.py'), at('../cli/exmix.mjs'), at('export-loss.ts')];
const TOKENIZER = at('../deploy/demo/tokenizer/spiece.model');

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    steps: { type: 'string', default: '8' },
    task: { type: 'string', default: 'country_qa' },
    engine: { type: 'string', default: 'wasm' },
    workers: { type: 'string', default: '2' },
  },
});
const { python, steps, task, engine, workers } = flags;
const folder = await mkdtemp(join(tmpdir(), 'exmix-flan-'));
const [flan, run] = [join(folder, 'flan'), join(folder, 'run')];
try {
  console.log(start(python, [MAKE, flan, TOKENIZER]).trim());
  const lengths = ['--set', 'featureLengths={inputs: 128, targets: 48}'];
  const batch = ['--set', 'training.rowsPerStep=16', '--set', 'training.numLanes=8', '--set', 'training.microbatchRows=2']; // prettier-ignore
  const validation = ['--set', 'evaluation.maxExamples=16', '--set', 'evaluation.lossOnly=true', '--set', 'checkpoint.keepBest.metric=loss']; // prettier-ignore
  const command = ['finetune', flan, '--mixture', 'demo', '--task', task, '--steps', steps];
  exmix([...command, '--engine', engine, '--workers', workers, '--run-dir', run, ...lengths, ...batch, ...validation]);
  const before = parameterDigest((await readModel(flan)).parameters);
  for (const dtype of ['float16', 'float32']) {
    const out = join(folder, dtype);
    exmix(['checkpoint', 'export', run, '--out', out, '--dtype', dtype]);
    const after = parameterDigest((await readModel(out)).parameters);
    console.log(JSON.stringify({ dtype, before: before.slice(0, 8), after: after.slice(0, 8) }));
    if (after === before) process.exitCode = 1;
    const compared = ['--import', 'tsx', LOSS, '--model', out, '--python', python, '--engine', engine];
    console.log(start(process.execPath, compared).trim());
  }
} finally {
  await rm(folder, { recursive: true });
}

function exmix(words: readonly string[]): void {
  start(process.execPath, [EXMIX, ...words]);
}

/** @throws where it ends with another status than 0; its standard error is passed through */
function start(program: string, words: readonly string[]): string {
  return execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}
