// A reporter of node:test that writes seconds of each test file, longest first, into dist/test-times.txt. What a file's tests at the top
// took is added; loading it is not counted. Written at once with each test: the runner ends without waiting for reporters.
import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT } from '../deploy/package/source-key.mjs';

const FILE = join(ROOT, 'dist', 'test-times.txt');

export default async function* times(source) {
  const secondsOf = new Map();
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined) continue;
    const file = relative(ROOT, data.file);
    secondsOf.set(file, (secondsOf.get(file) ?? 0) + data.details.duration_ms / 1000);
    const lines = [...secondsOf]
      .sort(([, a], [, b]) => b - a)
      .map(([name, seconds]) => `${seconds.toFixed(1)} ${name}\n`);
    writeFileSync(FILE, lines.join(''));
  }
}
