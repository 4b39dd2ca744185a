/**
 * A process that prepares a mixture, for tests that kill it: `prepare-child.fixture.ts MIXTURE OUT`. It writes a line
 * for each progress report and each finished task.
 */
import { loadMixture } from '../tasks/load-mixture.ts';
import { prepareMixture } from './prepare-mixture.ts';

const [mixturePath, outDir] = process.argv.slice(2) as [string, string];
let numReads = 0;
const report = await prepareMixture({
  mixture: loadMixture(mixturePath),
  featureLengths: { inputs: 24, targets: 12 },
  outDir,
  shardBytes: 1024,
  clock: { monotonicMs: () => 10_000 * numReads++, wallMs: () => 0, sleep: () => Promise.resolve() }, // makes every progress report due
  onProgress: ({ tasks }) => {
    for (const { name, state } of tasks) if (state === 'running') process.stdout.write(`progress ${name}\n`);
  },
  onTask: ({ name, outcome }) => process.stdout.write(`task ${name} ${outcome}\n`),
});
process.stdout.write(`done ${report.hash}\n`);
