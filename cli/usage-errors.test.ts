import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { main } from './main.ts';
import { explainUsage, findBadValue, type Usage } from './usage-errors.ts';

const USAGE: Usage = {
  argv: [],
  path: ['mixture'],
  subcommands: ['rates', 'set <run> <settings..>', 'show <run>'],
  flags: {
    names: ['steps', 'seed', 'set', 'run'],
    numbers: ['steps'],
    strings: ['set', 'run'],
    booleans: ['json'],
    lists: ['set'],
  },
};
const of = (...argv: string[]): Usage => ({ ...USAGE, argv });

describe('explainUsage', () => {
  const cases: readonly (readonly [string, Usage, string])[] = [
    [
      'Unknown argument: shwo',
      of('mixture', 'shwo'),
      'NAME_UNKNOWN: there is no command "exmix mixture shwo"; did you mean show?',
    ],
    [
      'Unknown argument: abcdef',
      of('mixture', 'abcdef'),
      'NAME_UNKNOWN: there is no command "exmix mixture abcdef"; known: rates, set, show',
    ],
    [
      'Unknown argument: b',
      { ...of('show', 'a', 'b'), path: ['mixture', 'show <run>'], subcommands: [] },
      'CONFIG_INVALID: exmix mixture show: unexpected argument "b"; exmix mixture show --help shows what it takes',
    ],
    [
      'Unknown arguments: step, stepSize',
      of('--step=3'),
      'CONFIG_INVALID: unknown flag --step (did you mean --steps?); exmix mixture --help shows what it takes',
    ],
    ['Unknown argument: q', of('-q'), 'CONFIG_INVALID: unknown flag -q; exmix mixture --help shows what it takes'],
    [
      'Not enough non-option arguments: got 1, need at least 2',
      { ...of('mixture', 'set', 'a'), path: ['mixture', 'set <run> <settings..>'] },
      'CONFIG_INVALID: exmix mixture set: expected <settings..>; exmix mixture set --help shows what it takes',
    ],
    ['Not enough arguments following: tasks', of('--tasks'), 'CONFIG_INVALID: --tasks: expected a value'],
    [
      'Missing required argument: url',
      { ...of('worker'), path: ['worker'] },
      'CONFIG_INVALID: exmix worker: expected --url; exmix worker --help shows what it takes',
    ],
    [
      'Invalid values:\n  Argument: device, Given: "tpu", Choices: "auto", "cpu"',
      of('--device', 'tpu'),
      'CONFIG_INVALID: --device: expected auto, cpu, got "tpu"',
    ],
    [
      'Arguments preset and config are mutually exclusive',
      of(),
      'CONFIG_INVALID: --preset and --config: expected one of them, got both',
    ],
    [
      'expected a command',
      { ...of('--steps'), path: [] },
      'CONFIG_INVALID: expected a command before --steps; exmix --help lists the commands',
    ],
  ];
  for (const [message, usage, expected] of cases)
    test(`says: ${expected}`, () => {
      const error = explainUsage(message, usage);
      assert.equal(`${error.code}: ${error.message}`, expected);
    });
});

describe('findBadValue', () => {
  const cases: readonly (readonly [Usage, Record<string, unknown>, string | undefined])[] = [
    [of('--steps', '3', '--json'), { steps: 3, json: true }, undefined],
    [of('--steps', '-3'), { steps: -3 }, undefined],
    [of('--set', 'a=1', '--set', 'b=2'), { set: ['a=1', 'b=2'] }, undefined],
    [of('--json=false'), { json: false }, undefined],
    [of('--steps'), { steps: undefined }, '--steps: expected a value'],
    [of('--steps', '--json'), { steps: undefined, json: true }, '--steps: expected a value'],
    [of('--set'), { set: [] }, '--set: expected a value'],
    [of('--run='), { run: '' }, '--run: expected a value'],
    [of('show', ''), { run: '' }, '<run>: expected a value, got ""'],
    [of('--steps', 'ten'), { steps: NaN }, '--steps: expected a number, got "ten"'],
    [of('--steps', '1', '--steps=2'), { steps: [1, 2] }, '--steps: expected one value, got "1" and "2"'],
    [of('--json=maybe'), { json: false }, '--json: expected true or false, got "maybe"'],
  ];
  for (const [usage, values, expected] of cases)
    test(`${usage.argv.join(' ')}: ${expected ?? 'is right'}`, () => {
      assert.equal(findBadValue(values, usage)?.message, expected);
    });
});

describe('a command line', () => {
  test('that is wrong ends with the status of usage', async (t) => {
    t.mock.method(process.stderr, 'write', () => true);
    for (const argv of [
      ['foo'],
      ['trian'],
      ['tasks', '--foo'],
      ['status'],
      ['mixture', 'foo'],
      ['train', '--steps'],
      ['tokenizer'],
      [],
    ])
      assert.equal(await main(argv), 2, argv.join(' '));
  });
});
