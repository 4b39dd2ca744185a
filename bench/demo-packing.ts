/**
 * Measures the fill of the rows that the demo's preset plans. The fill of a row is the larger of inputs used / inputs limit and
 * targets used / targets limit.
 *
 *   node --import tsx bench/demo-packing.ts [--rows 20000]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { planConfigOf } from '../coordinator/deal/plan-config.ts';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { Planner } from '../mixture/plan/planner.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { loadRunMixture } from '../cli/run-mixture.ts';
import { loadConfig } from '../shared/config/load-config.ts';

const { values } = parseArgs({ options: { rows: { type: 'string', default: '20000' } } });
const config = await loadConfig(fileURLToPath(new URL('../deploy/presets/demo.yaml', import.meta.url)), []);
const { featureLengths } = config;
const { mixture, prepared: outDir } = loadRunMixture(config, undefined);
const { folder } = await prepareMixture({
  mixture,
  featureLengths,
  outDir,
});
const prepared = await openPreparedMixture(folder);
const planner = new Planner(planConfigOf(config, prepared), prepared.tasks);

const numRows = Number(values.rows);
const startMs = performance.now();
const rows = planner.nextRows(numRows);
const planMs = performance.now() - startMs;

const kinds = { supervised: { rows: 0, fill: 0, examples: 0 }, denoising: { rows: 0, fill: 0, examples: 0 } };
for (const row of rows) {
  const used = { inputs: 0, targets: 0 };
  for (const { task, index } of row) {
    used.inputs += prepared.tasks[task]!.inputsLength(index);
    used.targets += prepared.tasks[task]!.targetsLength(index);
  }
  const isDenoising = row.some(({ task }) => prepared.tasks[task]!.kind === 'denoising');
  const kind = kinds[isDenoising ? 'denoising' : 'supervised'];
  kind.rows += 1;
  kind.examples += row.length;
  kind.fill += Math.max(used.inputs / featureLengths.inputs, used.targets / featureLengths.targets);
}
const { supervised, denoising } = kinds;
console.log('| rows of the demo | rows | examples a row | mean fill |');
console.log('|---|---|---|---|');
for (const [name, { rows: count, examples, fill }] of Object.entries(kinds))
  console.log(`| ${name} | ${count} | ${(examples / count).toFixed(2)} | ${(fill / count).toFixed(4)} |`);
console.log(`| all | ${numRows} | | ${((supervised.fill + denoising.fill) / numRows).toFixed(4)} |`);
console.log(`planned in ${planMs.toFixed(0)} ms: ${Math.round((1000 * numRows) / planMs)} rows/s`);
