/**
 * Duty: computes the README's table of tasks from mixture.yaml and the data. demo.test.ts compares the two, so the
 * table stays correct. `npx tsx deploy/demo/build/describe.ts` prints the table and writes it into README.md.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { TrainerError } from '../../../shared/errors.ts';
import { loadMixture } from '../../../mixture/tasks/load-mixture.ts';
import type { SourceSpec } from '../../../mixture/tasks/task.ts';
import { CREDITS } from './credits.ts';
import { SPLIT_FOLDERS, type Split } from './held-out.ts';
import { countWords } from './plain-text.ts';
import { readRows } from './read-rows.ts';

const BEGIN = '<!-- table: written by build/describe.ts -->';
const END = '<!-- end of table -->';

/** @param demoFolder deploy/demo @returns a Markdown table with one line per task; the denoising text is last */
export function describeDemo(demoFolder: string): string {
  const mixture = loadMixture(path.join(demoFolder, 'mixture.yaml'));
  const lines = [
    '| task | family | train | validation | test | words in | words out | file | source | licence |',
    '|---|---|--:|--:|--:|--:|--:|---|---|---|',
  ];
  const numRows = (source: SourceSpec, split: Split): number => readSource(inSplit(source, split)).length;
  for (const { name, family, source, preprocessor } of mixture.tasks) {
    const pairs = readSource(source).flatMap((row) => {
      const made = preprocessor.apply(row);
      return made.ok ? made.examples : [];
    });
    const inputs = pairs.map((pair) => pair.inputs);
    const targets = pairs.map((pair) => pair.targets);
    const counts = [pairs.length, numRows(source, 'validation'), numRows(source, 'test')];
    lines.push(row([name, family, ...counts, meanWords(inputs), meanWords(targets)], source));
  }
  const { denoising } = mixture;
  if (denoising !== undefined) {
    const documents = readSource(denoising.source).map(({ text }) => String(text));
    const counts = [documents.length, numRows(denoising.source, 'validation'), numRows(denoising.source, 'test')];
    lines.push(row([denoising.name, 'denoising', ...counts, meanWords(documents), ''], denoising.source));
  }
  return lines.join('\n');
}

/**
 * @returns the README with `table` between its two marks @throws TrainerError SOURCE_UNREADABLE if a mark is missing
 */
export function putTable(readme: string, table: string): string {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  if (begin === -1 || end < begin)
    throw new TrainerError('SOURCE_UNREADABLE', `README.md: expected the marks ${BEGIN} and ${END}`);
  return `${readme.slice(0, begin)}${BEGIN}\n\n${table}\n\n${readme.slice(end)}`;
}

/** All rows of a source, file by file. */
export function readSource(source: SourceSpec): ReturnType<typeof readRows> {
  const { format } = source;
  if (format === undefined || format === 'parquet' || format === 'tfrecord')
    throw new TrainerError(
      'CONFIG_INVALID',
      `expected a text format in the demo's mixture, found ${format ?? 'no format'}`,
    );
  return filesOf(source).flatMap((file) => readRows(file, format));
}

/** The source of the same name in the folder of another split. */
export function inSplit(source: SourceSpec, split: Split): SourceSpec {
  if (source.kind !== 'files') return source;
  const files = source.files.map(({ location, name }) => ({
    location: path.resolve(path.dirname(location), '..', SPLIT_FOLDERS[split], path.basename(location)),
    name,
  }));
  return { ...source, files };
}

/** Paths of the files of a source. */
export function filesOf(source: SourceSpec): string[] {
  return source.kind === 'files' ? source.files.map(({ location }) => location) : [];
}

function row(cells: readonly (string | number)[], source: SourceSpec): string {
  const files = filesOf(source).map((file) => path.basename(file));
  const credits = files.flatMap((file) => CREDITS[file] ?? []);
  const unique = (values: readonly string[]): string => [...new Set(values)].join('; ');
  const last = [
    files.join(', '),
    unique(credits.map((credit) => credit.source)),
    unique(credits.map((credit) => credit.licence)),
  ];
  return `| ${[...cells, ...last].join(' | ')} |`;
}

function meanWords(texts: readonly string[]): string {
  return (texts.reduce((sum, text) => sum + countWords(text), 0) / texts.length).toFixed(1);
}

if (process.argv[1] === import.meta.filename) {
  const demoFolder = path.resolve(import.meta.dirname, '..');
  const readmeFile = path.join(demoFolder, 'README.md');
  const table = describeDemo(demoFolder);
  writeFileSync(readmeFile, putTable(readFileSync(readmeFile, 'utf8'), table));
  console.log(table);
}
