/**
 * Compares the native engine with PyTorch and Transformers, and its recorded mode with its eager mode: whole training steps (forward,
 * backward, all gradients copied out, Adafactor) of the same model on the same shapes with the same number of threads, in turns, in one run.
 *
 *   node --import tsx bench/native-engine.ts [--shape c1|c2|small512] [--rounds 9] [--threads 2] [--python PATH] [--eager]
 *       [--eager-from FOLDER] [--precision bfloat16] [--xla] [--dropout 0.1 [--broadcast-length]]
 *
 * Needs an installed engine (exmix engine install). --python names an interpreter with torch and transformers; without it, PyTorch is not
 * measured. --eager-from names a checkout of an older commit (with this file copied in), whose eager engine is measured too. The eager engine
 * runs in its own process (--answer eager), as in a run, because the recorded one changes the memory allocator of its whole process.
 * --dropout measures the recorded engine a second time, with dropout. Ratios are of medians; above 1, exmix is faster. CPU time is that of the whole process and depends less on other load.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { exmixHome } from '../shared/exmix-home.ts';
import { TrainerError } from '../shared/errors.ts';
import { findInstalledEngine } from '../shared/installed-engine.ts';
import { modelConfigSchema } from '../shared/model-config.ts';
import type { Batch, Engine } from '../worker/engine/engine.ts';
import { createNativeEngine } from '../worker/engine/native/create-native-engine.ts';
import { dropoutKeys } from '../worker/model/dropout.ts';
import { initialiseParameters } from '../worker/model/initialise.ts';
import { numElements } from '../worker/model/parameters.ts';

/** A model and [rows, inputs length, targets length]; c2 and small512 are T5 v1.1 small. */
const SHAPES = {
  c1: { model: { dModel: 256, numHeads: 4, numLayers: 4, numDecoderLayers: 4, vocabSize: 8192 }, batch: [8, 128, 32] },
  c2: { model: {}, batch: [4, 256, 64] },
  small512: { model: {}, batch: [4, 512, 114] },
} as const;
const WARM_UP_ROUNDS = 2;

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'c1' },
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: '2' },
    python: { type: 'string' },
    eager: { type: 'boolean', default: false },
    'eager-from': { type: 'string' },
    answer: { type: 'string' },
    precision: { type: 'string', default: 'float32' },
    xla: { type: 'boolean', default: false },
    dropout: { type: 'string' },
    'broadcast-length': { type: 'boolean', default: false },
  },
});

interface Timing {
  readonly stepMs: number;
  readonly updateMs: number;
  readonly cpuMs: number;
  readonly loss: number;
}

const shapeName = Object.keys(SHAPES).find((name): name is keyof typeof SHAPES => name === flags.shape);
if (shapeName === undefined)
  throw new TrainerError('CONFIG_INVALID', `--shape: expected ${Object.keys(SHAPES).join(', ')}`);
const { model, batch: size } = SHAPES[shapeName];
const config = modelConfigSchema.parse(model);
const numThreads = Number(flags.threads);

function exampleBatch(): Batch {
  const [numRows, inputsLength, targetsLength] = size;
  const ids = (length: number, factor: number) =>
    Int32Array.from({ length }, (_, i) => (i * factor) % config.vocabSize);
  const [numInputs, numTargets] = [numRows * inputsLength, numRows * targetsLength];
  return {
    numRows,
    inputsLength,
    targetsLength,
    encoderInputIds: ids(numInputs, 37),
    encoderSegmentIds: new Int32Array(numInputs).fill(1),
    decoderInputIds: ids(numTargets, 53),
    decoderSegmentIds: new Int32Array(numTargets).fill(1),
    labels: ids(numTargets, 71),
    dropoutKeys: dropoutKeys(1, { step: 1, firstRow: 0, numRows }),
  };
}

async function openEngine(mode: 'recorded' | 'eager', rate = 0): Promise<Engine> {
  const home = exmixHome();
  const installed = await findInstalledEngine(home);
  if (installed === undefined) throw new TrainerError('ENGINE_UNAVAILABLE', `no native engine in ${home}`);
  const engine = createNativeEngine({
    installed,
    config,
    zLoss: 1e-4,
    dropout: { rate, broadcastLength: flags['broadcast-length'] },
    numThreads,
    device: 'cpu',
    isGpuRequired: false,
    precision: flags.precision === 'bfloat16' ? 'bfloat16' : 'float32',
    xla: flags.xla,
    allowTf32: false,
    mode,
    onWarning: (sentence) => {
      console.log(sentence);
    },
  });
  await engine.load(initialiseParameters(engine.parameters, 1), 'zero');
  return engine;
}

/** Copies gradients out as they come and passes them to the update, like a worker. */
function engineStep(engine: Engine): () => Promise<Timing> {
  const batch = exampleBatch();
  const gradients = engine.parameters.map(({ shape }) => new Float32Array(numElements(shape)));
  let step = 0;
  return async () => {
    const cpu = process.cpuUsage();
    const start = performance.now();
    const { crossEntropy } = await engine.step(batch, (parameter, gradient) => {
      gradients[parameter]!.set(gradient);
    });
    const middle = performance.now();
    await engine.apply(gradients, { step: step++, learningRate: 0.01, gradientScale: 1 / batch.labels.length });
    const end = performance.now();
    const { user, system } = process.cpuUsage(cpu);
    const loss = crossEntropy.reduce((sum, value) => sum + value, 0) / batch.labels.length;
    await new Promise(setImmediate);
    return { stepMs: middle - start, updateMs: end - middle, cpuMs: (user + system) / 1000, loss };
  };
}

interface Peer {
  readonly step: () => Promise<Timing>;
  readonly end: () => void;
}

/** Starts a process that prints its description, then answers each line with the timing of one step. */
async function openPeer(command: string, args: readonly string[]): Promise<Peer> {
  const peer = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: String(numThreads) },
  });
  const lines = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
  const line = async () => {
    const answer = await lines.next();
    if (answer.done === true) throw new TrainerError('INTERNAL', `${command} ended without an answer`);
    return answer.value;
  };
  console.log(`peer: ${await line()}`);
  const step = async () => {
    peer.stdin.write('step\n');
    return JSON.parse(await line()) as Timing;
  };
  return { step, end: () => peer.stdin.end() };
}

async function answer(mode: 'recorded' | 'eager'): Promise<never> {
  const engine = await openEngine(mode);
  console.log(engine.description.fingerprint);
  const step = engineStep(engine);
  const requests = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  while ((await requests.next()).done !== true) console.log(JSON.stringify(await step()));
  process.exit(0);
}

if (flags.answer !== undefined) await answer(flags.answer === 'eager' ? 'eager' : 'recorded');

const contestants = new Map<string, () => Promise<Timing>>();
const recorded = await openEngine('recorded');
console.log(`exmix: ${recorded.description.fingerprint}`);
contestants.set('exmix recorded', engineStep(recorded));
if (flags.dropout !== undefined) {
  const withDropout = await openEngine('recorded', Number(flags.dropout));
  contestants.set(`exmix recorded, dropout ${flags.dropout}`, engineStep(withDropout));
}
const peers: Peer[] = [];
const addPeer = async (name: string, command: string, args: readonly string[]) => {
  const peer = await openPeer(command, args);
  peers.push(peer);
  contestants.set(name, peer.step);
};
const checkouts = new Map<string, string>();
if (flags.eager) checkouts.set('exmix eager', fileURLToPath(new URL('..', import.meta.url)));
if (flags['eager-from'] !== undefined) checkouts.set('older exmix eager', flags['eager-from']);
for (const [name, checkout] of checkouts) {
  const same = ['--shape', shapeName, '--threads', flags.threads, '--precision', flags.precision];
  const file = join(checkout, 'bench/native-engine.ts');
  await addPeer(name, process.execPath, ['--import', 'tsx', file, ...same, '--answer', 'eager']);
}
if (flags.python !== undefined) {
  const script = fileURLToPath(new URL('./peers/torch_step.py', import.meta.url));
  const settings = JSON.stringify({ config, size, numThreads, precision: flags.precision });
  await addPeer('torch + transformers', flags.python, [script, settings]);
}

const timings = new Map([...contestants.keys()].map((name): [string, Timing[]] => [name, []]));
for (let round = -WARM_UP_ROUNDS; round < Number(flags.rounds); round++)
  for (const [name, step] of contestants) {
    const timing = await step();
    if (round >= 0) timings.get(name)!.push(timing);
  }
for (const peer of peers) peer.end();

const sorted = (name: string, of: (timing: Timing) => number) =>
  timings
    .get(name)!
    .map(of)
    .sort((a, b) => a - b);
const median = (name: string, of: (timing: Timing) => number) => {
  const values = sorted(name, of);
  return values[values.length >> 1]!;
};
const whole = ({ stepMs, updateMs }: Timing) => stepMs + updateMs;
const first = 'exmix recorded';
console.log(`\n${shapeName} [${size.join(', ')}], ${numThreads} threads, ${flags.rounds} rounds, medians in ms\n`);
console.log('| | step | update | whole | best whole | CPU | loss | step ÷ recorded | whole ÷ | best ÷ | CPU ÷ |');
console.log('|---|---|---|---|---|---|---|---|---|---|---|');
for (const name of timings.keys()) {
  const ratio = (of: (timing: Timing) => number) => `${(median(name, of) / median(first, of)).toFixed(2)}×`;
  const cells = [
    name,
    median(name, ({ stepMs }) => stepMs).toFixed(1),
    median(name, ({ updateMs }) => updateMs).toFixed(1),
    median(name, whole).toFixed(1),
    sorted(name, whole)[0]!.toFixed(1),
    median(name, ({ cpuMs }) => cpuMs).toFixed(0),
    timings.get(name)!.at(-1)!.loss.toFixed(3),
    ratio(({ stepMs }) => stepMs),
    ratio(whole),
    `${(sorted(name, whole)[0]! / sorted(first, whole)[0]!).toFixed(2)}×`,
    ratio(({ cpuMs }) => cpuMs),
  ];
  console.log(`| ${cells.join(' | ')} |`);
}
process.exit(0);
