/**
 * Measures the feed thread on a prepared mixture of the paper's 107 tasks and denoising (planner-mixture.ts, every size divided by --divide,
 * made-up ids): time to open, time to fill a microbatch, and the wait of an engine with a given time per microbatch.
 *
 * The engine is simulated by blocking the compute thread for that time, as TensorFlow does. Rows come from the real planner at 512/114.
 * Run: node --import tsx bench/feed.ts [--divide 100] [--microbatches 400] [--rows 8] [--engine-ms 5,20,100] [--location URL]
 * --location: a copy (http:, s3:) of the mixture that --keep FOLDER wrote.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { writeSyntheticMixture } from '../mixture/feed/synthetic-mixture.fixture.ts';
import { encodeRows } from '../mixture/plan/planned-rows.ts';
import { Planner } from '../mixture/plan/planner.ts';
import { computeRates, PAPER_RATES } from '../mixture/plan/rates.ts';
import { Feed } from '../worker/feed/feed.ts';
import { makeSyntheticMixture } from './planner-mixture.ts';

/** Microbatches of a dealt step. */
const MICROBATCHES_PER_STEP = 20;

const { values } = parseArgs({
  options: {
    divide: { type: 'string', default: '100' },
    microbatches: { type: 'string', default: '400' },
    rows: { type: 'string', default: '8' },
    'engine-ms': { type: 'string', default: '5,20,100' },
    location: { type: 'string' },
    keep: { type: 'string' },
  },
});
const [divide, numMicrobatches, numRows] = [values.divide, values.microbatches, values.rows].map(Number) as [
  number,
  number,
  number,
];
const featureLengths = { inputs: 512, targets: 114 };
const folder = values.keep ?? mkdtempSync(join(tmpdir(), 'exmix-bench-feed-'));
if (!existsSync(join(folder, 'mixture.json'))) {
  const tasks = makeSyntheticMixture().tasks.map((task) => ({
    name: task.name.toLowerCase().replace(/[^a-z0-9_.-]/gu, '_'),
    kind: task.kind,
    // Denoising has as many examples as all supervised tasks together.
    numExamples: Math.ceil((task.kind === 'denoising' ? 17_500_000 : task.numExamples) / divide),
    inputsLength: (index: number) => task.inputsLength(index),
    targetsLength: (index: number) => task.targetsLength(index),
  }));
  await writeSyntheticMixture({ folder, tasks, featureLengths, shardBytes: 64 * 1024 * 1024 });
}

const startMs = performance.now();
const mixture = await openPreparedMixture(folder);
const openMs = performance.now() - startMs;
const numExamples = mixture.sizes.reduce((sum, size) => sum + size.numExamples, 0);
const shares = computeRates(mixture.sizes, PAPER_RATES).map(({ share }) => share);
const plan = { seed: 7, inputsLimit: 512, targetsLimit: 114, windowDraws: 8192, shares };
console.log(`${mixture.tasks.length} tasks, ${numExamples} examples; opened in ${openMs.toFixed(0)} ms`);
mixture.close();

/** @returns the wait for each microbatch, ms @param engineMs blocks the compute thread after each */
async function measure(engineMs: number): Promise<{ waits: number[]; totalMs: number }> {
  const planner = new Planner(plan, mixture.tasks);
  const feed = new Feed({
    preparedFolder: values.location ?? folder,
    mixtureHash: mixture.hash,
    seed: 7,
    shape: { numRows, inputsLength: 512, targetsLength: 114 },
    microbatchesPerLane: MICROBATCHES_PER_STEP,
    numSlots: 8,
  });
  await feed.opened;
  const numSteps = Math.ceil(numMicrobatches / MICROBATCHES_PER_STEP) + 1;
  const deal = (step: number) =>
    feed.deal(step, [{ lane: 0, rows: encodeRows(planner.nextRows(MICROBATCHES_PER_STEP * numRows)) }]);
  const blocked = new Int32Array(new SharedArrayBuffer(4));
  const waits: number[] = [];
  let beginMs = 0;
  for (let step = 1; step <= 3; step++) deal(step);
  for (let step = 1; step <= numSteps; step++) {
    for (let microbatch = 0; microbatch < MICROBATCHES_PER_STEP; microbatch++) {
      if (step === 2 && microbatch === 0) beginMs = performance.now();
      const fromMs = performance.now();
      const batch = await feed.next({ step, lane: 0, microbatch }, new AbortController().signal);
      if (step > 1) waits.push(performance.now() - fromMs);
      if (engineMs > 0) Atomics.wait(blocked, 0, 0, engineMs);
      feed.release(batch);
      await new Promise(setImmediate);
    }
    if (step + 3 <= numSteps) deal(step + 3);
  }
  const totalMs = performance.now() - beginMs;
  await feed.stop();
  return { waits, totalMs };
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, value) => total + value, 0);
const unbound = await measure(0);
console.log(
  `no engine: ${(unbound.totalMs / unbound.waits.length).toFixed(2)} ms a microbatch of ${numRows} rows (feed bound)`,
);
console.log('| engine ms a microbatch | mean wait ms | longest wait ms | stall, share of step time |');
console.log('|---|---|---|---|');
for (const engineMs of values['engine-ms'].split(',').map(Number)) {
  const { waits, totalMs } = await measure(engineMs);
  const share = (100 * sum(waits)) / totalMs;
  const longest = Math.max(...waits);
  console.log(
    `| ${engineMs} | ${(sum(waits) / waits.length).toFixed(3)} | ${longest.toFixed(2)} | ${share.toFixed(2)} % |`,
  );
}
if (values.keep === undefined) rmSync(folder, { recursive: true });
