import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from './command-list.ts';
import { completionScript, SHELLS } from './commands/completion.ts';
import { complete } from './completion.ts';

const EXMIX = fileURLToPath(new URL('./exmix.mjs', import.meta.url));
const hasBash = spawnSync('bash', ['-c', 'true']).status === 0;

describe('completion', () => {
  test('offers all commands', async () => {
    const names = COMMANDS.map(({ command }) => String(command).split(' ', 1)[0]!);
    assert.deepEqual(await complete(['']), names.sort());
    assert.deepEqual(await complete([]), names.sort());
  });

  for (const [words, expected] of [
    [['tr'], ['train']],
    [
      ['checkpoint', ''],
      ['export', 'ls', 'show', 'verify'],
    ],
    [
      ['mixture', 's'],
      ['set', 'show'],
    ],
    [['mixture', '--rate'], ['--rate-cap']],
    [
      ['train', '--chaos-'],
      ['--chaos-seed', '--chaos-verify'],
    ],
    [['train', '--preset', 'd'], ['demo']],
    [['train', '--preset=d'], ['--preset=demo']],
    [['train', '--preset', '=', 'd'], ['demo']],
    [
      ['train', '--preset', '='],
      ['demo', 'ext5-base', 'ext5-large', 'ext5-small', 'nanot5'],
    ],
    [
      ['train', '--preset', 'demo', '--engine', ''],
      ['auto', 'native', 'wasm', 'cpu'],
    ],
    [['train', '--preset', 'demo', '--pre'], []],
    [
      ['train', '--set', 'a=1', '--se'],
      ['--seed', '--set'],
    ],
    [['doctor', '--probe'], []],
    [['doctor', '--json', '--device', 'c'], ['cpu']],
    [
      ['ledger', 'top', 'runs/a', '--by', ''],
      ['loss', 'tokens'],
    ],
    [['train', '--run-dir', ''], []],
    [['nonsense', 'more', ''], [...COMMANDS.map(({ command }) => String(command).split(' ', 1)[0]!)].sort()],
  ] as const)
    test(`of "exmix ${words.join(' ')}" offers ${expected.join(' ') || 'nothing'}`, async () => {
      assert.deepEqual(await complete(words), expected);
    });

  test('has a script for each shell', () => {
    for (const shell of SHELLS) assert.match(completionScript(shell), / --complete /u);
  });

  test('works in bash with the script that exmix prints', { skip: hasBash ? false : 'needs bash' }, () => {
    const script = `
      exmix() { "$NODE" "$EXMIX" "$@"; }
      source <(exmix completion bash)
      COMP_WORDS=(exmix train --preset = d) COMP_CWORD=4
      _exmix exmix
      printf '%s\\n' "\${COMPREPLY[@]}"
      COMP_WORDS=(exmix checkpoint "") COMP_CWORD=2
      _exmix exmix
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script], {
      encoding: 'utf8',
      env: { ...process.env, NODE: process.execPath, EXMIX },
    });
    assert.equal(stdout, 'demo\nexport\nls\nshow\nverify\n', stderr);
  });
});
