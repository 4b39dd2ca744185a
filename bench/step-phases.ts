/**
 * Prints the median time of each phase of a run's steps, from its log.
 *
 *   node --import tsx bench/step-phases.ts RUN_FOLDER
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../shared/statistics.ts';

const PHASES = ['feed', 'compute', 'communicate', 'update', 'total', 'wall'] as const;
/** The first steps include compilation and allocation. */
const WARM_UP_STEPS = 5;

interface Committed {
  readonly msg: string;
  readonly tokensPerSecond: number;
  readonly worldSize: number;
  readonly ms: Readonly<Record<(typeof PHASES)[number], number>>;
}

const lines = readFileSync(join(process.argv[2] ?? '.', 'coordinator.jsonl'), 'utf8')
  .trimEnd()
  .split('\n');
const steps = lines
  .map((line) => JSON.parse(line) as Committed)
  .filter(({ msg }) => msg === 'step committed')
  .slice(WARM_UP_STEPS);

console.log(
  `${steps.length} steps, ${steps[0]!.worldSize} workers, median ${median(steps.map((step) => step.tokensPerSecond))} tokens/s`,
);
console.log('| phase | median ms | share of total |');
console.log('|---|---|---|');
const total = median(steps.map(({ ms }) => ms.total));
for (const phase of PHASES) {
  const ms = median(steps.map((step) => step.ms[phase]));
  console.log(`| ${phase} | ${ms.toFixed(1)} | ${((100 * ms) / total).toFixed(1)} % |`);
}
