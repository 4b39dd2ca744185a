/** Checks that the storm finds bugs: each test plants one bug in a copy of the sources and runs schedules. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { FaultKind } from './schedule.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The files that the simulation needs. */
const SOURCES = ['coordinator', 'worker', 'shared', 'mixture', 'evaluation', 'e2e', 'package.json', 'tsconfig.json'];
const NUM_SCHEDULES = 20;

interface PlantedBug {
  readonly what: string;
  readonly file: string;
  /** Occurs once. */
  readonly from: string;
  readonly to: string;
  /** The only kind of fault to inject; default: all kinds. */
  readonly fault?: FaultKind;
  /** Matches the output of the storm. */
  readonly output: RegExp;
}

const BUGS: readonly PlantedBug[] = [
  {
    what: 'the lane tree adds in another order',
    file: 'shared/lane-tree.ts',
    from: 'finish.push({ operands: [a, b, c, d] });',
    to: 'finish.push({ operands: [a, c, b, d] });',
    output: /expected gradient|did not finish/u,
  },
  {
    what: 'a step is committed with its first report',
    file: 'coordinator/step/open-steps.ts',
    from: 'if (open.numMissing > 0) return undefined;',
    to: 'if (open.numMissing > 0) return this.settle(report.step);',
    output: /./u,
  },
  {
    what: 'a former coordinator is not fenced off',
    file: 'e2e/simulation/simulation.ts', // as coordinator/resume/open-run.ts, whose own test is open-run.test.ts
    from: 'if (lock.isTakenOver) this.#fenceOff();',
    to: '',
    fault: 'replace-coordinator',
    output: /journal line \d+: \S+ of epoch \d+ while epoch \d+ is open/u,
  },
];

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'exmix-planted-'));
  for (const source of SOURCES) await cp(join(ROOT, source), join(folder, source), { recursive: true });
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
});
after(() => rm(folder, { recursive: true }));

describe('planted bug', () => {
  for (const { what, file, from, to, fault, output } of BUGS)
    test(`${what}: the storm finds it`, async () => {
      const path = join(folder, file);
      const text = await readFile(path, 'utf8');
      assert.equal(text.split(from).length, 2, `${file}: expected once: ${from}`);
      await writeFile(path, text.replace(from, to));
      try {
        const args = ['--import', 'tsx', join(folder, 'e2e/simulation/storm.ts'), '0', String(NUM_SCHEDULES)];
        if (fault !== undefined) args.push('--fault', fault);
        const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder, maxBuffer: 1 << 24 });
        assert.match(stdout, output);
        assert.doesNotMatch(stdout, / 0 failed/u, stdout);
      } finally {
        await writeFile(path, text);
      }
    });
});
