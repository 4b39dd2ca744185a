/**
 * Lists and reads the evaluation sets of a prepared mixture, in a folder or in remote storage.
 *
 * A folder is listed by its subfolders, remote storage by `evaluation/sets.json`: a bucket or web server is not asked for listings.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { toStorageError, systemCode } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { openPreparedFiles, type PreparedAccess } from '../feed/prepared-mixture.ts';
import type { PreparedFiles } from '../feed/prepared-files.ts';
import { sha256Of, sha256Schema } from '../prepare/prepared-format.ts';
import {
  EXAMPLES_FILE,
  folderNameSchema,
  infoOf,
  MAX_EXAMPLES_BYTES,
  parseExample,
  parseSetRecord,
  SET_FILE,
  SETS_FOLDER,
  type EvaluationSetInfo,
  type SetExample,
} from './set-record.ts';

/** Names and hashes of all sets of a folder, for readers that cannot list. */
export const LIST_FILE = 'sets.json';

const listSchema = z.strictObject({
  format: z.literal('exmix-evaluation-sets'),
  version: z.literal(1),
  /** SHA-256 of each set.json. */
  sets: z.array(z.strictObject({ task: folderNameSchema, name: folderNameSchema, file: sha256Schema })),
});

export interface ReadSetsOptions {
  readonly access?: PreparedAccess;
  readonly signal?: AbortSignal;
}

/**
 * All finished sets, by task, split (validation first) and name. None if the mixture was prepared without them.
 * @param location a folder, or an http:, https: or s3: URL
 * @throws SHARD_CORRUPT, PATH_UNUSABLE, the codes of shared/storage, ABORTED
 */
export async function listEvaluationSets(
  location: string,
  { access, signal }: ReadSetsOptions = {},
): Promise<EvaluationSetInfo[]> {
  return withFiles(location, access, async (files) => {
    const infos: EvaluationSetInfo[] = [];
    for (const { task, name, file } of await namesOf(files, signal)) {
      const key = keyOf(task, name, SET_FILE);
      const place = files.placeOf(key);
      const content =
        file === undefined
          ? await files.readUnknown(key, signal)
          : await files.readKnown({ key, sha256: file }, signal);
      const info = infoOf(parseSetRecord(Buffer.from(content).toString('utf8'), place));
      if (info.task !== task || info.name !== name)
        throw new TrainerError(
          'SHARD_CORRUPT',
          `${place}: expected the set ${name} of ${task}, found ${info.name} of ${info.task}; run "exmix prepare" again`,
        );
      infos.push(info);
    }
    return infos.sort(compareSets);
  });
}

/** By task, split (validation first) and name. */
export function compareSets(a: EvaluationSetInfo, b: EvaluationSetInfo): number {
  const key = ({ task, split, name }: EvaluationSetInfo) => [task, split === 'test' ? '1' : '0', name].join('\n');
  return key(a) < key(b) ? -1 : 1;
}

/**
 * The examples of a set, in order, verified by its hash.
 * @throws SHARD_CORRUPT if they are missing or other ones; as listEvaluationSets
 */
export async function readEvaluationSet(
  location: string,
  { task, name, numExamples, bytes, sha256 }: EvaluationSetInfo,
  { access, signal }: ReadSetsOptions = {},
): Promise<readonly SetExample[]> {
  return withFiles(location, access, async (files) => {
    const key = keyOf(task, name, EXAMPLES_FILE);
    const place = files.placeOf(key);
    if (bytes > MAX_EXAMPLES_BYTES)
      throw new TrainerError('SHARD_CORRUPT', `${place}: expected at most ${MAX_EXAMPLES_BYTES} B, found ${bytes} B`);
    const content = Buffer.from(await files.readKnown({ key, bytes, sha256 }, signal));
    const examples: SetExample[] = [];
    for (let from = 0; from < content.length;) {
      const end = content.indexOf(0x0a, from);
      const to = end < 0 ? content.length : end;
      examples.push(parseExample(content.toString('utf8', from, to), examples.length, place));
      if (examples.length % 1024 === 0) throwIfAborted(signal, `reading ${place}`);
      from = to + 1;
    }
    if (examples.length !== numExamples)
      throw new TrainerError('SHARD_CORRUPT', `${place}: expected ${numExamples} examples, found ${examples.length}`);
    return examples;
  });
}

/** The text of `evaluation/sets.json` for the sets that are in the folder now. */
export async function describeSets(folder: string): Promise<string> {
  const sets = [];
  for (const { task, name } of await localNames(folder)) {
    const content = await withFiles(folder, undefined, (files) => files.readUnknown(keyOf(task, name, SET_FILE)));
    sets.push({ task, name, file: sha256Of(content) });
  }
  return `${JSON.stringify({ format: 'exmix-evaluation-sets', version: 1, sets }, null, 2)}\n`;
}

async function withFiles<T>(
  location: string,
  access: PreparedAccess | undefined,
  use: (files: PreparedFiles) => Promise<T>,
): Promise<T> {
  const files = openPreparedFiles(location, access);
  try {
    return await use(files);
  } finally {
    files.close();
  }
}

const keyOf = (task: string, name: string, file: string): string => `${SETS_FOLDER}/${task}/${name}/${file}`;

interface SetName {
  readonly task: string;
  readonly name: string;
  /** SHA-256 of its set.json, if a list tells it. */
  readonly file?: string;
}

async function namesOf(files: PreparedFiles, signal: AbortSignal | undefined): Promise<readonly SetName[]> {
  if (isLocalLocation(files.location)) return localNames(files.location);
  const key = `${SETS_FOLDER}/${LIST_FILE}`;
  let content: Uint8Array;
  try {
    content = await files.readUnknown(key, signal);
  } catch (error) {
    // readUnknown says PATH_UNUSABLE for a missing file; anything else is a failure of the storage.
    if (toTrainerError(error).code === 'PATH_UNUSABLE') return [];
    throw error;
  }
  const parsed = z
    .preprocess((text) => parseJson(String(text)), listSchema)
    .safeParse(Buffer.from(content).toString('utf8'));
  if (parsed.success) return parsed.data.sets;
  throw new TrainerError(
    'SHARD_CORRUPT',
    `${files.placeOf(key)}: expected a list of evaluation sets, found other content; copy the prepared mixture again`,
    { cause: parsed.error },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The folders that hold a set.json. A set appears whole, so its other file is there too. */
async function localNames(folder: string): Promise<SetName[]> {
  const names: SetName[] = [];
  const root = join(folder, SETS_FOLDER);
  for (const task of await foldersIn(root))
    for (const name of await foldersIn(join(root, task)))
      if ((await entriesOf(join(root, task, name))).some((entry) => entry.name === SET_FILE))
        names.push({ task, name });
  return names;
}

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await entriesOf(folder);
  return entries
    .filter((entry) => entry.isDirectory() && folderNameSchema.safeParse(entry.name).success)
    .map(({ name }) => name)
    .sort();
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw toStorageError(error, 'read', folder);
  }
}
