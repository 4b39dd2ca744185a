/**
 * Times the update of each optimizer by the native engine beside PyTorch's, in turns, on the parameters of T5 v1.1 small (C2).
 *
 *   node --import tsx bench/optimizer-update.ts --python PYTHON [--threads 2] [--rounds 9]
 *
 * PyTorch: torch.optim.AdamW in its three implementations (a loop over parameters is its default on a CPU), Transformers' Adafactor, nanoT5's
 * AdamWScale (peers/torch_update.py). Gradients are in memory before the clock starts.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { exmixHome } from '../shared/exmix-home.ts';
import { findInstalledEngine } from '../shared/installed-engine.ts';
import { modelConfigSchema } from '../shared/model-config.ts';
import { optimizerSchema } from '../shared/optimizer.ts';
import { createNativeEngine } from '../worker/engine/native/create-native-engine.ts';
import { initialiseParameters } from '../worker/model/initialise.ts';
import { numElements } from '../worker/model/parameters.ts';

const WARM_UP_ROUNDS = 2;

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '9' },
  },
});
const installed = await findInstalledEngine(exmixHome());
if (installed === undefined || flags.python === undefined)
  throw new Error('needs an installed native engine, and --python with torch and transformers');
const numThreads = Number(flags.threads);
const config = modelConfigSchema.parse({});
const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;

const PAIRS = [
  ['adafactor', 'Adafactor'],
  ['adamw', 'AdamW'],
  ['adamw', 'AdamW foreach'],
  ['adamw', 'AdamW fused'],
  ['adamw-rms', 'AdamWScale'],
] as const;

console.log('| optimizer | beside | exmix, ms | PyTorch, ms | PyTorch ÷ exmix |\n|---|---|---|---|---|');
for (const [kind, peerName] of PAIRS) {
  const engine = createNativeEngine({
    ...{ installed, config, zLoss: 0, numThreads, device: 'cpu', precision: 'float32', xla: false, allowTf32: false },
    optimizer: optimizerSchema.parse({ kind }),
    isGpuRequired: false,
    onWarning: (sentence) => console.error(sentence),
  });
  await engine.load(initialiseParameters(engine.parameters, 1), 'zero');
  const gradients = engine.parameters.map(({ shape }, parameter) =>
    Float32Array.from({ length: numElements(shape) }, (_, i) => Math.sin(i + parameter)),
  );
  const shapes = JSON.stringify({ kind: peerName, numThreads, shapes: engine.parameters.map(({ shape }) => shape) });
  const script = fileURLToPath(new URL('./peers/torch_update.py', import.meta.url));
  const peer = spawn(flags.python, [script, shapes], { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
  const times = { ours: [] as number[], theirs: [] as number[] };
  for (let round = -WARM_UP_ROUNDS; round < Number(flags.rounds); round++) {
    const start = performance.now();
    await engine.apply(gradients, { step: round + WARM_UP_ROUNDS, learningRate: 1e-3, gradientScale: 1 });
    const ours = performance.now() - start;
    peer.stdin.write('\n');
    const theirs = Number((await answers.next()).value);
    if (round < 0) continue;
    times.ours.push(ours);
    times.theirs.push(theirs);
  }
  peer.stdin.end();
  await engine.dispose();
  const [ours, theirs] = [median(times.ours), median(times.theirs)];
  console.log(`| ${kind} | ${peerName} | ${ours.toFixed(0)} | ${theirs.toFixed(0)} | ${(theirs / ours).toFixed(2)}× |`);
}
