/** A file system's root with given files, for tests of the readers. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';

/** @param files by path, such as `proc/cpuinfo`; gone after the test @returns the root */
export function layOut(t: Pick<TestContext, 'after'>, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'exmix-machine-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}
