/**
 * Measures speed and memory of preparing sources:
 *
 *   node --import tsx bench/prepare.ts --megabytes 256 [--format parquet|jsonl] [--processes 1,2] [--as denoising|supervised] [--copies 5]
 *
 * The real command prepares a made-up source (bench/prepare-source.ts) with the demo's vocabulary for rows of 512 and 114 tokens: reading,
 * templates, tokenization, hashing, writing with fsync, merging. For each number of processes it prints tokens per second (including tokens
 * that truncation removes), by wall clock and by CPU time of all processes (the speed of one core), and the largest resident memory of any
 * process (/proc is read five times a second).
 * `--copies`: so many hard links to one file, for a large source that is quick to make.
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ShardReport } from '../mixture/prepare/prepare-mixture.ts';
import { writeJsonl, writeParquet } from './prepare-source.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const TOKENIZER = fileURLToPath(new URL('../deploy/demo/tokenizer/spiece.model', import.meta.url));
const SAMPLE_MS = 200;
/** Units of /proc: clock ticks per second, and memory pages. */
const TICKS = 100;
const PAGE_BYTES = 4096;

const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '128' },
    format: { type: 'string', default: 'parquet' },
    processes: { type: 'string', default: '1,2' },
    as: { type: 'string', default: 'denoising' },
    copies: { type: 'string', default: '1' },
    folder: { type: 'string' },
  },
});
const format = values.format === 'jsonl' ? 'jsonl' : 'parquet';
const folder = values.folder ?? mkdtempSync(join(tmpdir(), 'exmix-bench-prepare-'));
mkdirSync(folder, { recursive: true });

const sourcePath = join(folder, `source-${values.megabytes}.${format}`);
if (!existsSync(sourcePath)) {
  await (format === 'jsonl' ? writeJsonl : writeParquet)(`${sourcePath}.part`, Number(values.megabytes) * 1e6);
  renameSync(`${sourcePath}.part`, sourcePath);
}
const mixturePath = join(folder, 'mixture.yaml');
// Hard links to one file: a large source that is quick to make.
const copies = Array.from({ length: Number(values.copies) }, (_, i) => join(folder, `copy-${i}.${format}`));
for (const copy of copies) if (!existsSync(copy)) linkSync(sourcePath, copy);
const source = `source: { path: ${JSON.stringify(copies)}, format: ${format} }`;
writeFileSync(
  mixturePath,
  `name: bench\ntokenizer: ${JSON.stringify(TOKENIZER)}\n` +
    (values.as === 'supervised'
      ? `tasks:\n  - { name: text, family: X, ${source}, inputs: "read: {text}", targets: "{url}" }\n`
      : `denoising: { name: text, ${source} }\n`),
);
const show = (value: number) => Math.round(value).toLocaleString('en-US');
console.log(
  `source: ${format}, ${show(statSync(sourcePath).size / 1e6)} MB on disk in each of ${copies.length} files, as ${values.as}`,
);

for (const processes of values.processes.split(',')) {
  const outDir = join(folder, `out-${processes}`);
  rmSync(outDir, { recursive: true, force: true });
  const args = ['prepare', '--mixture', mixturePath, '--out', outDir, '--processes', processes, '--json'];
  const started = performance.now();
  const child = spawn(process.execPath, [EXMIX, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const usage = new Map<number, { cpuSeconds: number; peakBytes: number }>();
  const timer = setInterval(() => sample(child.pid ?? 0, usage), SAMPLE_MS);
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearInterval(timer);
  const seconds = (performance.now() - started) / 1000;
  if (code !== 0) {
    console.error(`exmix prepare ended with ${String(code)}`);
    process.exitCode = 1;
    break;
  }
  const { finished } = JSON.parse(printed) as ShardReport;
  const manifest = finished!.tasks[0]!.manifest;
  const numTokens = manifest.numTokens + manifest.truncated.tokens + manifest.droppedTokens.longDocuments;
  const cpuSeconds = [...usage.values()].reduce((sum, of) => sum + of.cpuSeconds, 0);
  const peak = Math.max(...[...usage.values()].map(({ peakBytes }) => peakBytes));
  console.log(
    `${processes} process(es): ${show(manifest.numRows)} rows, ${show(numTokens)} tokens in ${seconds.toFixed(1)} s: ` +
      `${show(numTokens / seconds)} tokens/s, ${show(numTokens / cpuSeconds)} per second of CPU; ` +
      `largest process ${show(peak / 1e6)} MB; hash ${finished!.hash.slice(0, 12)}`,
  );
}
if (values.folder === undefined) rmSync(folder, { recursive: true });

/** Records CPU time and resident memory of a process and its children so far. */
function sample(pid: number, usage: Map<number, { cpuSeconds: number; peakBytes: number }>): void {
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/u.test(entry))) {
    let text: string;
    try {
      text = readFileSync(`/proc/${name}/stat`, 'utf8');
    } catch {
      continue; // it has just ended
    }
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    if (Number(name) !== pid && Number(fields[1]) !== pid) continue;
    const cpuSeconds = (Number(fields[11]) + Number(fields[12])) / TICKS;
    const bytes = Number(fields[21]) * PAGE_BYTES;
    const before = usage.get(Number(name));
    usage.set(Number(name), { cpuSeconds, peakBytes: Math.max(bytes, before?.peakBytes ?? 0) });
  }
}
