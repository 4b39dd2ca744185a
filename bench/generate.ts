/**
 * Compares decoding on the native engine with Transformers' `generate` on PyTorch: the same model, inputs and number of threads, in turns, in
 * one run. And decoding with cached keys and values with the whole decoder run anew for each token.
 *
 *   node --import tsx bench/generate.ts --python PATH [--rounds 5] [--threads 1] [--rows 32] [--beams 1,4] [--no-cache]
 *
 * T5 v1.1 small with random weights, inputs of 128 tokens, 64 new tokens; EOS is suppressed, so that both sides make them all. Needs an
 * installed engine (exmix engine install) and an interpreter with torch and transformers. Ratios are medians of the rounds' ratios; above 1,
 * exmix is faster. CPU time is that of the whole process and depends less on other load. Run all of it under `taskset -c 0` to give both one core.
 *
 * Without a cache (--no-cache): time of `score`, the decoder over all tokens so far, at two lengths, and the straight line through them, summed over
 * the 64 lengths without the encoder's part. Transformers without a cache is measured as it is.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { formatTable } from '../cli/text-table.ts';
import { createSearch, decodeBatch } from '../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings } from '../evaluation/decoding/settings.ts';
import { TrainerError } from '../shared/errors.ts';
import { exmixHome } from '../shared/exmix-home.ts';
import { findInstalledEngine } from '../shared/installed-engine.ts';
import { encodeHuggingFaceJson } from '../shared/checkpoint/hugging-face-json.ts';
import { modelConfigSchema, toHuggingFace } from '../shared/model-config.ts';
import { float32Tensor, writeSafetensors } from '../shared/safetensors.ts';
import { median } from '../shared/statistics.ts';
import type { Engine } from '../worker/engine/engine.ts';
import { createNativeEngine } from '../worker/engine/native/create-native-engine.ts';
import { initialiseParameters } from '../worker/model/initialise.ts';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1' },
    rows: { type: 'string', default: '32' },
    beams: { type: 'string', default: '1,4' },
    'no-cache': { type: 'boolean', default: false },
  },
});
if (flags.python === undefined)
  throw new TrainerError('CONFIG_INVALID', 'expected --python, with torch and transformers');

const config = modelConfigSchema.parse({});
const [numRows, inputsLength, newTokens] = [Number(flags.rows), 128, 64];
const numThreads = Number(flags.threads);
const inputIds = Int32Array.from(
  { length: numRows * inputsLength },
  (_, i) => 2 + ((i * 7919) % (config.vocabSize - 2)),
);

interface Timing {
  readonly ms: number;
  readonly cpuMs: number;
  readonly ids: readonly (readonly number[])[];
}

async function timed(run: () => Promise<Timing['ids']>): Promise<Timing> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const ids = await run();
  const ms = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  return { ms, cpuMs: (user + system) / 1000, ids };
}

async function openEngine(): Promise<Engine> {
  const installed = await findInstalledEngine(exmixHome());
  if (installed === undefined) throw new TrainerError('ENGINE_UNAVAILABLE', `no native engine in ${exmixHome()}`);
  return createNativeEngine({
    installed,
    config,
    zLoss: 0,
    numThreads,
    device: 'cpu',
    precision: 'float32',
    xla: false,
    allowTf32: false,
    onWarning: (sentence) => {
      console.log(sentence);
    },
  });
}

function generate(engine: Engine, numBeams: number): Promise<Timing> {
  const limits = { minNewTokens: newTokens, maxNewTokens: newTokens };
  const settings = parseDecodingSettings(
    numBeams === 1 ? { method: 'greedy', ...limits } : { method: 'beam', numBeams, ...limits },
  );
  return timed(async () => {
    const decoding = await engine.startDecoding({
      numRows,
      inputsLength,
      encoderInputIds: inputIds,
      encoderSegmentIds: inputIds.map(() => 1),
    });
    const searches = Array.from({ length: numRows }, (_, row) => createSearch(settings, row, config.vocabSize));
    const hypotheses = await decodeBatch(decoding, searches);
    decoding.dispose();
    return hypotheses.map(([best]) => best!.ids);
  });
}

/** Milliseconds of the decoder over `targetsLength` tokens of each hypothesis, and of the encoder. */
async function scoreMs(engine: Engine, numBeams: number, targetsLength: number): Promise<number> {
  const rows = numRows * numBeams;
  const targets = new Int32Array(rows * targetsLength).fill(5);
  const inputs = Int32Array.from({ length: rows * inputsLength }, (_, i) => inputIds[i % inputIds.length]!);
  const batch = {
    numRows: rows,
    inputsLength,
    targetsLength,
    encoderInputIds: inputs,
    encoderSegmentIds: inputs.map(() => 1),
    decoderInputIds: targets,
    decoderSegmentIds: targets.map(() => 1),
    labels: targets,
  };
  await engine.score(batch);
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await engine.score(batch);
    times.push(performance.now() - start);
  }
  return median(times);
}

/** The decoder over 1, 2, … newTokens tokens, without the encoder: lines through measured lengths, whose crossing of 0 is the encoder. */
async function withoutCacheMs(engine: Engine, numBeams: number): Promise<number> {
  const [short, long] = [newTokens / 4, newTokens];
  const [shortMs, longMs] = [await scoreMs(engine, numBeams, short), await scoreMs(engine, numBeams, long)];
  const slope = (longMs - shortMs) / (long - short);
  return (slope * newTokens * (newTokens + 1)) / 2;
}

const folder = await mkdtemp(join(tmpdir(), 'exmix-generate-'));
const engine = await openEngine();
const parameters = initialiseParameters(engine.parameters, 1);
await engine.load(parameters, 'zero');
await writeFile(join(folder, 'config.json'), encodeHuggingFaceJson(toHuggingFace(config)));
await writeSafetensors(
  join(folder, 'model.safetensors'),
  engine.parameters.map(({ name, shape }) => float32Tensor(name, shape, parameters.get(name)!)),
  { format: 'pt' },
);
console.log(`exmix: ${engine.description.fingerprint}`);

const script = fileURLToPath(new URL('./peers/torch_generate.py', import.meta.url));
const settings = { folder, size: [numRows, inputsLength], newTokens, numThreads, inputIds: [...inputIds] };
const settingsFile = join(folder, 'settings.json');
await writeFile(settingsFile, JSON.stringify(settings));
const peer = spawn(flags.python, [script, settingsFile], {
  stdio: ['pipe', 'pipe', 'inherit'],
  env: { ...process.env, OMP_NUM_THREADS: String(numThreads) },
});
const lines = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
const answer = async (): Promise<string> => {
  const line = await lines.next();
  if (line.done === true) throw new TrainerError('INTERNAL', 'the peer ended without an answer');
  return line.value;
};
console.log(`peer: ${await answer()}`);
const askPeer = async (numBeams: number, useCache: boolean): Promise<Timing> => {
  peer.stdin.write(`${JSON.stringify({ numBeams, useCache })}\n`);
  return JSON.parse(await answer()) as Timing;
};

const table: (string | number)[][] = [];
for (const numBeams of flags.beams.split(',').map(Number)) {
  const rounds: { ours: Timing; theirs: Timing }[] = [];
  for (let round = -1; round < Number(flags.rounds); round++) {
    const ours = await generate(engine, numBeams);
    const theirs = await askPeer(numBeams, true);
    console.log(
      `${numBeams} beams, round ${round}: exmix ${ours.ms.toFixed(0)} ms (CPU ${ours.cpuMs.toFixed(0)}), ` +
        `torch ${theirs.ms.toFixed(0)} ms (CPU ${theirs.cpuMs.toFixed(0)}), load ${loadavg()[0]!.toFixed(1)}`,
    );
    if (round >= 0) rounds.push({ ours, theirs }); // the first warms up
  }
  const of = (side: 'ours' | 'theirs', what: 'ms' | 'cpuMs'): number =>
    median(rounds.map((round) => round[side][what]));
  const ratio = (what: 'ms' | 'cpuMs'): string =>
    `${median(rounds.map(({ ours, theirs }) => theirs[what] / ours[what])).toFixed(2)}×`;
  const [{ ours, theirs }] = rounds as [{ ours: Timing; theirs: Timing }];
  const equal = ours.ids.filter((ids, row) => ids.join() === theirs.ids[row]!.join()).length;
  table.push([
    numBeams === 1 ? 'greedy' : `${numBeams} beams`,
    of('ours', 'ms').toFixed(0),
    of('theirs', 'ms').toFixed(0),
    ratio('ms'),
    of('ours', 'cpuMs').toFixed(0),
    of('theirs', 'cpuMs').toFixed(0),
    ratio('cpuMs'),
    `${equal} of ${numRows}`,
  ]);
  if (flags['no-cache']) {
    const plainMs = await withoutCacheMs(engine, numBeams);
    console.log(
      `${numBeams} beams: without a cache ${plainMs.toFixed(0)} ms for the decoder alone, ` +
        `${(plainMs / of('ours', 'ms')).toFixed(1)} times the whole of decoding with it; Transformers without a cache ` +
        `${(await askPeer(numBeams, false)).ms.toFixed(0)} ms`,
    );
  }
}
console.log(
  `\n${numRows} rows, ${numThreads} threads, ${flags.rounds} rounds, load ${loadavg()[0]!.toFixed(1)}, medians\n`,
);
console.log(
  formatTable(['', 'exmix ms', 'torch ms', 'ratio', 'exmix CPU ms', 'torch CPU ms', 'ratio', 'equal rows'], table),
);
peer.stdin.end();
await rm(folder, { recursive: true });
process.exit(0);
