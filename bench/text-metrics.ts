/**
 * Compares BLEU and ROUGE with sacrebleu and rouge-score: time of one corpus, in alternating rounds, each in a process of its own.
 *
 *   node --import tsx bench/text-metrics.ts --python PYTHON [--pairs 2000] [--rounds 5] [--seed 1]
 *
 * The corpus is made up: summaries of three sentences, references that differ in some words. ROUGE is ROUGE-1, -2, -L and -Lsum with stemmer.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatTable } from '../cli/text-table.ts';
import { bleu } from '../evaluation/metrics/bleu.ts';
import { rougePair } from '../evaluation/metrics/rouge.ts';
import { RandomStream } from '../shared/random.ts';
import { median } from '../shared/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string' },
    pairs: { type: 'string', default: '2000' },
    rounds: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    measure: { type: 'string' },
  },
});

interface Timing {
  readonly bleu: number;
  readonly bleuSeconds: number;
  readonly rouge: number;
  readonly rougeSeconds: number;
}

interface Pairs {
  readonly predictions: readonly string[];
  readonly references: readonly string[];
}

const WORDS =
  'the of and to in a is that for it was on are as with his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know'.split(
    ' ',
  );

function makePairs(count: number, seed: number): Pairs {
  const random = new RandomStream([seed]);
  const word = (): string =>
    `${WORDS[random.nextBelow(WORDS.length)]!}${['', '', '', 's', 'ing', 'ed'][random.nextBelow(6)]!}`;
  const sentence = (): string => `${Array.from({ length: 12 + random.nextBelow(12) }, word).join(' ')}.`;
  const references = Array.from({ length: count }, () => Array.from({ length: 3 }, sentence).join('\n'));
  const predictions = references.map((text) =>
    text.replace(/[a-z]+/gu, (old) => (random.nextBelow(4) === 0 ? word() : old)),
  );
  return { predictions, references };
}

function measure(file: string): Timing {
  const { predictions, references } = JSON.parse(readFileSync(file, 'utf8')) as Pairs;
  let startMs = performance.now();
  const score = bleu()(references.map((reference) => [reference]), predictions).score()['bleu']!; // prettier-ignore
  const bleuSeconds = (performance.now() - startMs) / 1000;
  startMs = performance.now();
  let sum = 0;
  for (const [at, reference] of references.entries()) {
    for (const type of ['rouge1', 'rouge2', 'rougeL'] as const)
      rougePair(reference, predictions[at]!, type, { stemmer: true });
    sum += rougePair(reference, predictions[at]!, 'rougeLsum', { stemmer: true }).fmeasure;
  }
  const rougeSeconds = (performance.now() - startMs) / 1000;
  return { bleu: score, bleuSeconds, rouge: (100 * sum) / references.length, rougeSeconds };
}

if (flags.measure !== undefined) console.log(JSON.stringify(measure(flags.measure)));
else {
  if (flags.python === undefined) throw new Error('expected --python, a Python with sacrebleu and rouge-score');
  const folder = mkdtempSync(join(tmpdir(), 'exmix-text-metrics-'));
  const file = join(folder, 'pairs.json');
  writeFileSync(file, JSON.stringify(makePairs(Number(flags.pairs), Number(flags.seed))));
  const peer = join(import.meta.dirname, 'peers', 'text_metrics.py');
  const run = (command: string, args: readonly string[]): Timing =>
    JSON.parse(execFileSync(command, [...args, file], { encoding: 'utf8' })) as Timing;
  const rounds = Array.from({ length: Number(flags.rounds) }, () => ({
    ours: run(process.execPath, ['--import', 'tsx', import.meta.filename, '--measure']),
    theirs: run(flags.python!, [peer]),
  }));
  const { ours, theirs } = rounds[0]!;
  const row = (name: string, key: 'bleuSeconds' | 'rougeSeconds', scores: readonly number[]): (string | number)[] => {
    const of = (side: 'ours' | 'theirs'): number => median(rounds.map((round) => round[side][key]));
    const ratios = rounds.map((round) => round.theirs[key] / round.ours[key]);
    return [
      name,
      of('ours').toFixed(3),
      of('theirs').toFixed(3),
      median(ratios).toFixed(1),
      scores.map((score) => score.toFixed(9)).join(' = '),
    ];
  };
  console.log(
    formatTable(
      ['metric', 'exmix s', 'Python s', 'ratio', 'score'],
      [
        row('BLEU, sacrebleu', 'bleuSeconds', [ours.bleu, theirs.bleu]),
        row('ROUGE, rouge-score', 'rougeSeconds', [ours.rouge, theirs.rouge]),
      ],
    ),
  );
  rmSync(folder, { recursive: true });
}
