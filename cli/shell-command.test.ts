import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { commandOf, quoteWord, type Call } from './shell-command.ts';

const WORDS = ['train', '--resume', 'runs/a'];

describe('a command to paste', () => {
  for (const [name, call, expected] of [
    ['npx', { script: '/x/node_modules/.bin/exmix', cwd: '/x', env: { npm_command: 'exec' } }, 'npx exmix'],
    [
      'a script of package.json',
      { script: '/x/cli/exmix.mjs', cwd: '/x', env: { npm_command: 'run-script' } },
      'npx exmix',
    ],
    ['an installed program', { script: '/usr/bin/exmix', cwd: '/home/a', env: {} }, 'exmix'],
    ['a checkout', { script: '/x/cli/exmix.mjs', cwd: '/x', env: {} }, 'node cli/exmix.mjs'],
    ['a checkout elsewhere', { script: '/my x/cli/exmix.mjs', cwd: '/home/a', env: {} }, "node '/my x/cli/exmix.mjs'"],
  ] satisfies [string, Call, string][])
    // prettier-ignore
    test(`calls exmix as ${name} did`, () => {
      assert.equal(commandOf(call, WORDS), `${expected} train --resume runs/a`);
    });

  test('a shell reads each quoted word as it was', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string().filter((word) => !word.includes('\0')),
          { maxLength: 5 },
        ),
        (words) => {
          const script = `printf '%s\\0' x ${words.map(quoteWord).join(' ')}`;
          const read = execFileSync('sh', ['-c', script]).toString('utf8').split('\0').slice(1, -1);
          assert.deepEqual(read, words);
        },
      ),
      { numRuns: 50 },
    );
  });
});
