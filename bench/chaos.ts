/**
 * Runs the demo under chaos until enough faults were injected. Checks that every run ends with the bits of the undisturbed run and trained each
 * example exactly once. Measures the time from a fault to the next committed step.
 *
 *   node --import tsx bench/chaos.ts [--engines native,wasm] [--seeds 1,2,3] [--steps 60] [--faults 100] [--spec kill=0.05,…] [--keep]
 *
 * For each engine: one undisturbed run, then one run per seed of faults, one after the other, with 3 workers each, until --faults were injected
 * in total. The training seed is the same, so all runs of an engine must end with the same parameters. A run that takes longer than --minutes
 * counts as hung. The folder of a failed run is kept, and all folders with --keep. Exit status 1 if a run failed.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FAULTS } from '../cli/chaos/chaos-spec.ts';
import { countFaults, type ChaosRecord } from '../cli/chaos/chaos-report.ts';
import { formatTable } from '../cli/text-table.ts';
import { replayJournal } from '../coordinator/journal/journal.ts';
import { median } from '../shared/statistics.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const SPEC = 'kill=0.12,stop=0.12,coordinator-kill=0.06,join=0.06,leave=0.06';

const { values: flags } = parseArgs({
  options: {
    engines: { type: 'string', default: 'native,wasm' },
    seeds: { type: 'string', default: '1,2,3,4,5,6,7,8,9,10' },
    steps: { type: 'string', default: '60' },
    faults: { type: 'string', default: '100' },
    spec: { type: 'string', default: SPEC },
    minutes: { type: 'string', default: '10' },
    keep: { type: 'boolean', default: false },
  },
});

const root = mkdtempSync(join(tmpdir(), 'exmix-chaos-'));

/** @returns exit status; null if it hung and was killed */
function train(engine: string, runDir: string, chaos: readonly string[]): Promise<number | null> {
  const fixed = ['--preset', 'demo', '--engine', engine, '--steps', flags.steps, '--seed', '7', '--workers', '3'];
  return exmix('train', ...fixed, '--set', 'checkpoint.everySteps=10', '--run-dir', runDir, ...chaos);
}

/** @returns exit status; null if it hung and was killed */
async function exmix(...args: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [EXMIX, ...args], { stdio: 'ignore' });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  // The first signal stops it gently, the second one at once.
  const limitMs = Number(flags.minutes) * 60_000;
  const timers = [limitMs, limitMs + 60_000].map((ms) => setTimeout(() => child.kill('SIGINT'), ms));
  const status = await ended;
  for (const timer of timers) clearTimeout(timer);
  return status;
}

async function digestOf(runDir: string): Promise<string | undefined> {
  const { state } = await replayJournal(join(runDir, 'journal'));
  return state.lastCheckpoint?.step === Number(flags.steps) ? state.lastCheckpoint.paramDigest : undefined;
}

function readRecords(runDir: string): ChaosRecord[] {
  const path = join(runDir, 'chaos.jsonl');
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ChaosRecord);
}

interface Outcome {
  readonly engine: string;
  readonly seed: string;
  readonly status: number | null;
  readonly isSame: boolean;
  /** The ledger's audit found each example exactly once. */
  readonly isExact: boolean;
  readonly records: readonly ChaosRecord[];
}

function isCorrect({ status, isSame, isExact }: Outcome): boolean {
  return status === 0 && isSame && isExact;
}

function injected(records: readonly ChaosRecord[]) {
  return records.flatMap((record) => (record.kind === 'injected' && record.notInjected === null ? [record] : []));
}

const outcomes: Outcome[] = [];
const numFaults = (): number => outcomes.reduce((sum, { records }) => sum + injected(records).length, 0);
const engines = flags.engines.split(',');
const references = new Map<string, string | undefined>();
for (const engine of engines) {
  const runDir = join(root, `${engine}-undisturbed`);
  await train(engine, runDir, []);
  references.set(engine, await digestOf(runDir));
}
for (const seed of flags.seeds.split(','))
  for (const engine of engines) {
    if (numFaults() >= Number(flags.faults)) break;
    const runDir = join(root, `${engine}-${seed}`);
    const status = await train(engine, runDir, ['--chaos', flags.spec, '--chaos-seed', seed]);
    const digest = await digestOf(runDir);
    const isSame = digest !== undefined && digest === references.get(engine);
    const isExact = (await exmix('ledger', 'audit', runDir)) === 0;
    const records = readRecords(runDir);
    const outcome = { engine, seed, status, isSame, isExact, records };
    outcomes.push(outcome);
    const isRight = isCorrect(outcome);
    console.log(
      `${engine} seed ${seed}: ${injected(records).length} faults, status ${status ?? 'none'}, ${isSame ? 'same bits' : 'OTHER BITS'}, ${isExact ? 'each example once' : 'THE AUDIT FAILS'}${isRight ? '' : `, ${runDir}`}`,
    );
    if (isRight && !flags.keep) rmSync(runDir, { recursive: true });
  }

const faults = outcomes.flatMap(({ records }) => injected(records));
const costs = (records: readonly ChaosRecord[], name: string): number[] => {
  const numbers = new Set(injected(records).flatMap(({ fault, number }) => (fault === name ? [number] : [])));
  return records.flatMap((record) =>
    record.kind === 'recovered' && numbers.has(record.number) ? [record.costMs] : [],
  );
};
const counts = countFaults(faults);
console.log(`\n${faults.length} faults in ${outcomes.length} runs of ${flags.steps} steps, spec ${flags.spec}\n`);
console.log(
  formatTable(
    ['fault', 'count', 'median cost, ms', 'longest, ms'],
    FAULTS.filter((name) => counts.get(name)! > 0).map((name) => {
      const each = outcomes.flatMap(({ records }) => costs(records, name));
      const cost = each.length === 0 ? ['no effect', ''] : [median(each), Math.max(...each)];
      return [name, counts.get(name)!, ...cost];
    }),
  ),
);
const wrong = outcomes.filter((outcome) => !isCorrect(outcome));
console.log(
  wrong.length === 0
    ? 'every run ended with the same bits, each example once'
    : `${wrong.length} RUNS FAILED, see ${root}`,
);
if (wrong.length === 0 && !flags.keep) rmSync(root, { recursive: true });
else process.exitCode = 1;
