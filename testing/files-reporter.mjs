// A reporter of node:test that writes two files in dist/: the seconds of each test file, longest first, and each failed test with its
// error. Seconds are of the tests at a file's top; loading it is not counted. Each test writes at once: the runner ends without waiting
// for reporters.
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { inspect } from 'node:util';
import { ROOT } from '../deploy/package/source-key.mjs';

const TIMES = join(ROOT, 'dist', 'test-times.txt');
export const FAILURES = join(ROOT, 'dist', 'test-failures.txt');

export default async function* files(source) {
  const secondsOf = new Map();
  rmSync(FAILURES, { force: true });
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.file === undefined) continue;
    const file = relative(ROOT, data.file);
    const { error, duration_ms: durationMs } = data.details;
    // A suite fails by its tests, which are told themselves.
    if (type === 'test:fail' && error?.failureType !== 'subtestsFailed')
      appendFileSync(FAILURES, `${file}: ${data.name}\n${inspect(error?.cause ?? error, { depth: 4 })}\n\n`);
    if (data.nesting !== 0) continue;
    secondsOf.set(file, (secondsOf.get(file) ?? 0) + durationMs / 1000);
    const lines = [...secondsOf]
      .sort(([, a], [, b]) => b - a)
      .map(([name, seconds]) => `${seconds.toFixed(1)} ${name}\n`);
    writeFileSync(TIMES, lines.join(''));
  }
}
