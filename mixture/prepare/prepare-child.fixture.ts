/** A process that prepares a mixture, to be killed: `prepare-child.fixture.ts MIXTURE OUT`; writes a line for each finished task. */
import { loadMixture } from '../tasks/load-mixture.ts';
import { prepareMixture } from './prepare-mixture.ts';

const [mixturePath, outDir] = process.argv.slice(2) as [string, string];
const report = await prepareMixture({
  mixture: loadMixture(mixturePath),
  featureLengths: { inputs: 24, targets: 12 },
  outDir,
  shardBytes: 1024,
  onProgress: ({ task, numExamples }) => process.stdout.write(`progress ${task} ${numExamples}\n`),
  onTask: ({ name, outcome }) => process.stdout.write(`task ${name} ${outcome}\n`),
});
process.stdout.write(`done ${report.hash}\n`);
