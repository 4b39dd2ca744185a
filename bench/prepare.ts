/**
 * How fast sources become token shards: `npx tsx bench/prepare.ts [mixture.yaml]`. One thread: reading, decompression, templates,
 * tokenization, hashing, writing with fsync. The demo mixture without an argument.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { readSource } from '../mixture/sources/read-unit.ts';
import { resolveSources } from '../mixture/sources/resolve-source.ts';
import { createSourceAccess } from '../mixture/sources/source-access.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';

const REPETITIONS = 3;

const path = process.argv[2] ?? fileURLToPath(new URL('../deploy/demo/mixture.yaml', import.meta.url));
const mixture = loadMixture(path);
const folder = mkdtempSync(join(tmpdir(), 'exmix-bench-prepare-'));

async function time<T>(work: () => Promise<T>): Promise<{ seconds: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { seconds: (performance.now() - start) / 1000, result };
}

const access = createSourceAccess();
const sources = await resolveSources(
  [...mixture.tasks, ...(mixture.denoising === undefined ? [] : [mixture.denoising])].map(({ source }) => source),
  access,
);

try {
  for (let i = 0; i < REPETITIONS; i++) {
    const reading = await time(async () => {
      let numRecords = 0;
      for (const source of sources) for await (const batch of readSource(source, { access })) numRecords += batch.length;
      return numRecords;
    });
    const outDir = join(folder, String(i));
    const init = { mixture, featureLengths: { inputs: 128, targets: 48 }, outDir };
    const preparing = await time(() => prepareMixture(init));
    const again = await time(() => prepareMixture(init));
    const numTokens = preparing.result.tasks.reduce((sum, { manifest }) => sum + manifest.numTokens, 0);
    const rate = (count: number, seconds: number) => Math.round(count / seconds).toLocaleString('en-US');
    console.log(
      `read ${reading.result} records in ${reading.seconds.toFixed(2)} s (${rate(reading.result, reading.seconds)}/s); ` +
        `prepared ${numTokens} tokens in ${preparing.seconds.toFixed(2)} s (${rate(numTokens, preparing.seconds)} tokens/s); ` +
        `found all done in ${again.seconds.toFixed(2)} s`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
