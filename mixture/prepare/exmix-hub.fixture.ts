/**
 * A mock hub with ExMix tasks of many shapes and any number of rows. It repeats the made-up rows of a task, and adds a
 * number to their longer texts. The same call gives the same bytes.
 */
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { assertInvariant } from '../../shared/errors.ts';
import { startMockHub, type MockDataset, type MockHub } from '../sources/hub/mock-hub.fixture.ts';
import { C4 } from '../tasks/exmix/c4.ts';
import { EXMIX_TASKS } from '../tasks/exmix/exmix.ts';
import { parquetColumns, parquetSchema, taskFixtures, type TaskFixture } from '../tasks/exmix/task-fixtures.fixture.ts';
import type { SourceFields } from '../tasks/task.ts';

/**
 * Together they have sentence pairs, floats, structs, lists of structs, several examples for a row, rows left out, and
 * three splits in one task.
 */
export const HUB_TASKS = [
  'glue_mnli',
  'glue_stsb',
  'super_glue_copa',
  'super_glue_multirc',
  'super_glue_record',
  'super_glue_wic',
  'super_glue_wsc',
  'dpr',
  'kilt_nq',
  'rainbow_hellaswag',
  'gem_dart',
  'gem_totto',
  'go_emotions',
  'squad_v1',
  'coqa',
  'imdb',
] as const;
export const C4_TASK = C4.name;

/** Rows of a row group. It is small, so that a task has several units. */
const ROWS_PER_GROUP = 40;
/** Rows of each split besides train. */
const ROWS_PER_SET = 20;
const NUM_C4_FILES = 3;
/** A text with at least this many words gets a number. */
const MANY_WORDS = 8;
/** In a task whose validation set is cut out of train by content, rows must differ; its texts are short. */
const SHORT_TEXTS = { task: 'imdb', manyWords: 3 };

export interface ExmixHub extends MockHub {
  /** The parquet file of a task, with its data set and path. */
  readonly fileOf: (task: string) => { readonly dataset: string; readonly path: string; readonly content: Uint8Array };
}

/** @param rowsPerTask rows of each task, documents of each of C4's files */
export async function startExmixHub(rowsPerTask: number): Promise<ExmixHub> {
  const fixtures = new Map(taskFixtures().map((fixture) => [fixture.task, fixture]));
  const converted = new Map<string, Record<string, Uint8Array>>();
  const places = new Map<string, { dataset: string; path: string; content: Uint8Array }>();
  for (const name of HUB_TASKS) {
    const { source } = EXMIX_TASKS.find((task) => task.name === name)!;
    assertInvariant(
      source.kind === 'hub' && source.files === undefined,
      `${name} is a set of parquet files on the hub`,
    );
    const path = `${source.config ?? 'default'}/${source.split}/0000.parquet`;
    const content = toParquet(fixtures.get(name)!, rowsPerTask);
    const { splits } = EXMIX_TASKS.find((task) => task.name === name)!;
    const sets = [...splits.validation, ...splits.test].filter(({ kind }) => kind === 'split');
    const held = sets.map((set) => [
      `${source.config ?? 'default'}/${set.name}/0000.parquet`,
      toParquet(fixtures.get(name)!, ROWS_PER_SET),
    ]);
    const files = { ...Object.fromEntries(held), [path]: content } as Record<string, Uint8Array>;
    converted.set(source.dataset, { ...converted.get(source.dataset), ...files });
    places.set(name, { dataset: source.dataset, path, content });
  }
  const datasets: Record<string, MockDataset> = {};
  for (const [id, files] of converted) datasets[id] = { files: { 'README.md': id }, converted: files };
  datasets[C4.source.dataset] = { files: c4Files(fixtures.get(C4.name)!, rowsPerTask) };
  const hub = await startMockHub({ datasets });
  return { ...hub, fileOf: (task) => places.get(task)! };
}

function toParquet({ task, columns, rows }: TaskFixture, numRows: number): Uint8Array {
  const manyWords = task === SHORT_TEXTS.task ? SHORT_TEXTS.manyWords : MANY_WORDS;
  const all = Array.from({ length: numRows }, (_, i) => vary(rows[i % rows.length]!, i, manyWords));
  const content = parquetWriteBuffer({
    columnData: parquetColumns({ columns, rows: all }),
    schema: parquetSchema(columns),
    rowGroupSize: ROWS_PER_GROUP,
  });
  return new Uint8Array(content);
}

function c4Files({ rows }: TaskFixture, numDocuments: number): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  for (let file = 0; file < NUM_C4_FILES; file++) {
    const lines = Array.from({ length: numDocuments }, (_, i) => {
      const row = vary(rows[i % rows.length]!, file * numDocuments + i);
      return `${JSON.stringify({ ...row, url: `https://example.org/${file}/${i}` })}\n`;
    });
    files[`en/c4-train.0000${file}-of-01024.json.gz`] = gzipSync(lines.join(''));
    if (file === 0) files['en/c4-validation.00000-of-00008.json.gz'] = gzipSync(lines.join(''));
  }
  return files;
}

/** Adds the number of the row to its long texts. Short texts stay, because other columns may point into them. */
function vary(row: SourceFields, number: number, manyWords = MANY_WORDS): SourceFields {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      typeof value === 'string' && value.split(' ').length >= manyWords ? `${value} ${number}` : value,
    ]),
  );
}
