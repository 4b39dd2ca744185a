/**
 * Makes the evaluation sets of a mixture, beside its token shards: `evaluation/<task>/<set>/{set.json, examples.jsonl}`.
 *
 * A set is kept if it is whole and was made from the same source by the same rules. It is made in a partial folder that is renamed when it is
 * finished, so it appears whole or not at all. Any number of processes may do this at the same time: they make the same bytes.
 * A set has at most `maxExamples` examples. A larger split gives a uniform sample in its order; denoising text gives its first segments.
 *
 * Memory: for each of MAX_CONCURRENT sets the decoder of its source, one record, and the keys of its sample.
 */
import { mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { throwIfAborted } from '../../shared/abort.ts';
import {
  hashFile,
  replaceFile,
  statIfThere,
  syncFolder,
  systemCode,
  toStorageError,
  writeNewFile,
} from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { dropPartialFolder, makePartialFolder, removeAbandoned } from '../../shared/partial-folders.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { MAX_MANIFEST_BYTES } from '../prepare/manifest.ts';
import { isRemote } from '../prepare/plan-file.ts';
import { BAD_ROW_THRESHOLD } from '../prepare/prepare-options.ts';
import { checkRows } from '../prepare/row-tally.ts';
import { readSource } from '../sources/read-unit.ts';
import { resolveSource } from '../sources/resolve-source.ts';
import type { ResolvedSource } from '../sources/resolved-source.ts';
import { createSourceAccess, reportRetries, type SourceAccess } from '../sources/source-access.ts';
import { SPLITS, type FeatureLengths, type Mixture, type SplitName } from '../tasks/task.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { declareSets, type AbsentSet, type DeclaredSet } from './declared-sets.ts';
import { compareSets, describeSets, LIST_FILE } from './read-evaluation-sets.ts';
import {
  createSetRecord,
  EXAMPLES_FILE,
  infoOf,
  parseSetRecord,
  serializeSetRecord,
  SET_FILE,
  SETS_FOLDER,
  type EvaluationSetInfo,
  type SetRecord,
} from './set-record.ts';
import { SetRows } from './set-rows.ts';
import { ExamplesWriter } from './write-examples.ts';

/** Default largest number of examples of a supervised set. */
export const MAX_SUPERVISED_EXAMPLES = 50_000;
/** The same of text: the loss of 2,000 segments has a standard error far below what training changes. */
export const MAX_TEXT_EXAMPLES = 2_000;
/** Sets that are made at the same time: while one waits for its source, another is tokenized. */
const MAX_CONCURRENT = 4;

export interface EvaluationSetsInit {
  readonly mixture: Mixture;
  /** Tokens, EOS included. */
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture. Created if it does not exist; its token shards are not needed. */
  readonly outDir: string;
  /** Default: all. */
  readonly splits?: readonly SplitName[];
  /** Largest number of examples of a set. Default: MAX_SUPERVISED_EXAMPLES, MAX_TEXT_EXAMPLES; an existing set of another size is then kept. */
  readonly maxExamples?: number;
  /** Largest share of malformed rows of a set, 0 to 1. */
  readonly badRowThreshold?: number;
  /** How sources are reached. Default: from the environment. */
  readonly access?: SourceAccess;
  /** Keeps finished sets of remote sources as they are, and asks no server. */
  readonly pinned?: boolean;
  /** Hashes an existing set if it has at most this many bytes, else compares only its size. Default: always hashes. */
  readonly hashUpToBytes?: number;
  readonly signal?: AbortSignal;
  /** Called when a set is finished. */
  readonly onSet?: (set: PreparedSet) => void;
  /** Called for each set that is declared and cannot be made, which is no failure. */
  readonly onAbsent?: (set: AbsentSet) => void;
  /** Lines for the user: a request is retried. */
  readonly onNote?: (line: string) => void;
}

export interface PreparedSet {
  readonly info: EvaluationSetInfo;
  /** `kept`: it existed before. */
  readonly outcome: 'prepared' | 'kept';
}

type Settings = EvaluationSetsInit & {
  readonly access: SourceAccess;
  readonly tokenizer: Tokenizer;
};

/**
 * @returns the sets that exist now, by task, split and name
 * @throws SOURCE_MALFORMED (too many malformed rows, an empty split), SOURCE_UNREADABLE, NAME_UNKNOWN (a split that the source does not have),
 * CONFIG_INVALID, and the codes of shared/storage: for all sets at once, after the others were made; TOKENIZER_INVALID, PATH_UNUSABLE,
 * DISK_FULL, ABORTED
 */
export async function prepareEvaluationSets(init: EvaluationSetsInit): Promise<EvaluationSetInfo[]> {
  const { mixture, featureLengths, outDir, splits = SPLITS, onSet, onAbsent, onNote, signal, maxExamples } = init;
  if (maxExamples !== undefined && !(Number.isSafeInteger(maxExamples) && maxExamples >= 1))
    throw new TrainerError(
      'CONFIG_INVALID',
      `size of evaluation sets: expected a whole number of examples from 1, found ${maxExamples}`,
    );
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const access = reportRetries(init.access ?? createSourceAccess(), onNote);
  const settings: Settings = { ...init, access, tokenizer };
  const { sets, absent } = declareSets({ mixture, featureLengths, tokenizer: tokenizer.hash, splits });
  await cleanUp(outDir, mixture);
  for (const set of absent) onAbsent?.(set);
  const infos: EvaluationSetInfo[] = [];
  const failures = new Map<DeclaredSet, TrainerError>();
  const queue = [...sets];
  const stop = new AbortController();
  const settingsOfWork = {
    ...settings,
    signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
  };
  const work = async (): Promise<void> => {
    for (let set = queue.shift(); set !== undefined; set = queue.shift())
      try {
        const prepared = await ensureSet(set, settingsOfWork);
        if (prepared === undefined) onAbsent?.(emptyCut(set));
        else {
          infos.push(prepared.info);
          onSet?.(prepared);
        }
      } catch (thrown) {
        const error = withSet(toTrainerError(thrown), set);
        if (!isOfOneSet(error)) {
          stop.abort(error);
          throw error;
        }
        failures.set(set, error);
      }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(MAX_CONCURRENT, sets.length) }, work));
  for (const result of results) if (result.status === 'rejected') throw toTrainerError(result.reason);
  if (infos.length > 0) await replaceFile(join(outDir, SETS_FOLDER, LIST_FILE), await describeSets(outDir));
  const inOrder = sets.flatMap((set) => failures.get(set) ?? []);
  if (inOrder.length > 0)
    throw new TrainerError(inOrder[0]!.code, inOrder.map(({ message }) => message).join('\n'), { cause: inOrder });
  return infos.sort(compareSets);
}

/** Removes parts of dead processes, and sets that these tasks declare no more. @throws PATH_UNUSABLE */
async function cleanUp(outDir: string, { tasks, denoising }: Mixture): Promise<void> {
  for (const { name, splits } of [...tasks, ...(denoising === undefined ? [] : [denoising])]) {
    const declared = new Set(SPLITS.flatMap((split) => splits?.[split] ?? []).map((set) => set.name));
    const folder = join(outDir, SETS_FOLDER, name);
    if ((await statIfThere(folder)) === undefined) continue;
    await removeAbandoned(folder);
    const entries = await readdir(folder).catch((error: unknown) => {
      throw toStorageError(error, 'read', folder);
    });
    for (const entry of entries) if (!entry.startsWith('.') && !declared.has(entry)) await removeSet(folder, entry);
  }
}

function emptyCut({ rules: { task, split, name, cut } }: DeclaredSet): AbsentSet {
  const reason = `none of its train records is in the cut of 1 in ${cut ?? 0}; name a source in ${split}:, or a larger cut`;
  return { task, split, name, reason };
}

/** Whether the other sets can be made after this error. */
function isOfOneSet({ code }: TrainerError): boolean {
  return (
    code.startsWith('STORAGE_') ||
    code === 'SOURCE_MALFORMED' ||
    code === 'SOURCE_UNREADABLE' ||
    code === 'NAME_UNKNOWN' ||
    code === 'CONFIG_INVALID'
  );
}

function withSet(error: TrainerError, { rules: { task, name } }: DeclaredSet): TrainerError {
  const { code, message, retryable } = error;
  if (!isOfOneSet(error) || message.startsWith(`task ${task}, set `)) return error;
  return new TrainerError(code, `task ${task}, set ${name}: ${message}`, { retryable, cause: error });
}

/** Keeps or makes one set. @returns undefined for a cut without any record */
async function ensureSet(set: DeclaredSet, settings: Settings): Promise<PreparedSet | undefined> {
  const { outDir, access, pinned = false, hashUpToBytes = Infinity, maxExamples, signal } = settings;
  const { task, name } = set.rules;
  const taskFolder = join(outDir, SETS_FOLDER, task);
  const folder = join(taskFolder, name);
  const found = await readWhole(folder, hashUpToBytes, signal);
  const followsRules = (record: SetRecord | undefined): record is SetRecord =>
    record !== undefined &&
    JSON.stringify(record.rules) === JSON.stringify(set.rules) &&
    (maxExamples === undefined || record.maxExamples === maxExamples);
  const isOfRules = followsRules(found);
  const keep = (record: SetRecord): PreparedSet => ({ info: infoOf(record), outcome: 'kept' });
  if (isOfRules && pinned && isRemote(set.source)) return keep(found);
  const source = await resolveSource(set.source, access, signal);
  const facts = JSON.stringify(factsOf(source));
  const isWanted = (other: SetRecord | undefined): other is SetRecord =>
    followsRules(other) && JSON.stringify(factsOf(other)) === facts;
  if (isWanted(found)) return keep(found);
  await mkdir(taskFolder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', taskFolder);
  });
  const partial = await makePartialFolder(taskFolder, name);
  try {
    const record = await writeSet(set, source, settings, partial);
    if (record === undefined) return undefined;
    await writeNewFile(join(partial, SET_FILE), serializeSetRecord(record));
    // Another process may have published the set since: that one stays, since its readers must not lose it for a moment.
    while (!(await publish(partial, taskFolder, name))) {
      const published = await readWhole(folder, hashUpToBytes, signal);
      if (isWanted(published)) return keep(published);
      await removeSet(taskFolder, name, async (aside) => isWanted(await readWhole(aside, hashUpToBytes, signal)));
    }
    return { info: infoOf(record), outcome: 'prepared' };
  } finally {
    await dropPartialFolder(partial);
  }
}

/** A set.json that is whole, with examples of the right size and, up to `hashUpToBytes`, hash. */
async function readWhole(
  folder: string,
  hashUpToBytes: number,
  signal: AbortSignal | undefined,
): Promise<SetRecord | undefined> {
  const path = join(folder, SET_FILE);
  const text = await readIfThere(path, MAX_MANIFEST_BYTES);
  if (text === undefined) return undefined;
  let record: SetRecord;
  try {
    record = parseSetRecord(text, path);
  } catch (error) {
    if (toTrainerError(error).code === 'SHARD_CORRUPT') return undefined; // it is made again
    throw error;
  }
  const examples = join(folder, EXAMPLES_FILE);
  if ((await statIfThere(examples))?.size !== record.bytes) return undefined;
  if (record.bytes <= hashUpToBytes && (await hashFile(examples, signal)).sha256 !== record.sha256) return undefined;
  return record;
}

/** The content of the source, as set.json tells it. */
function factsOf(of: ResolvedSource | SetRecord): Pick<SetRecord, 'files' | 'revision'> {
  const revision = 'rules' in of ? of.revision : of.origin?.revision;
  return {
    files: of.files.map(({ name, bytes, version }) => ({ name, bytes, version })),
    ...(revision === undefined ? {} : { revision }),
  };
}

/** Writes examples.jsonl. @returns undefined for a cut without any record */
async function writeSet(
  set: DeclaredSet,
  source: ResolvedSource,
  { tokenizer, featureLengths, access, badRowThreshold = BAD_ROW_THRESHOLD, signal, ...settings }: Settings,
  folder: string,
): Promise<SetRecord | undefined> {
  const { rules, content, heldOut } = set;
  const { task, name } = rules;
  const { maxExamples = content.kind === 'supervised' ? MAX_SUPERVISED_EXAMPLES : MAX_TEXT_EXAMPLES } = settings;
  const rows = new SetRows(set, tokenizer, featureLengths);
  const writer = await ExamplesWriter.open({ folder, task, set: name, maxExamples });
  // Text has no end that must be reached: a corpus may be as large as C4.
  const isFull = (): boolean => content.kind === 'denoising' && writer.numSeen >= maxExamples;
  try {
    const records = readSource(source, {
      requiredFields: rows.fields,
      access,
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const batch of records) {
      throwIfAborted(signal, `preparing set ${name} of task ${task}`);
      for (const example of rows.add(batch)) {
        if (isFull()) break;
        await writer.add(example);
      }
      rows.tally.checkEarly();
      if (isFull()) break;
    }
    const { numSeen, ...written } = await writer.finish();
    const counts = rows.tally.counts();
    if (numSeen === 0 && heldOut !== undefined && counts.rows.malformed === 0) return undefined;
    checkContent(set, source, { ...counts, numSeen, isWhole: !isFull() }, badRowThreshold);
    return createSetRecord({
      rules,
      ...factsOf(source),
      maxExamples,
      ...(isFull() ? {} : { numAvailable: numSeen }),
      ...written,
      ...counts,
    });
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** @throws SOURCE_MALFORMED */
function checkContent(
  { rules: { task, name, kind, segmentLength }, heldOut }: DeclaredSet,
  { expectedRows, origin }: ResolvedSource,
  counts: Parameters<typeof checkRows>[1] & { readonly numSeen: number; readonly isWhole: boolean },
  badRowThreshold: number,
): void {
  const what = `task ${task}, set ${name}`;
  const { read } = counts.rows;
  const malformed = (message: string) => new TrainerError('SOURCE_MALFORMED', `${what}: ${message}`);
  if (read === 0) throw malformed('its source has no rows; name another source for the split');
  checkRows(`${task}, set ${name}`, counts, badRowThreshold);
  if (expectedRows !== undefined && heldOut === undefined && counts.isWhole && expectedRows !== read)
    throw malformed(
      `README.md of ${origin?.dataset ?? 'its source'} tells ${expectedRows} rows, but its files have ${read}; ` +
        'if they are right, name them with files and format',
    );
  if (counts.numSeen > 0) return;
  throw malformed(
    kind === 'denoising'
      ? `expected text for at least one segment of ${segmentLength ?? 0} tokens; give it more text`
      : `none of ${read} rows gives an example; correct its preprocessor or name another source`,
  );
}

/** Moves a set away in one step, then removes it. @param isWanted tells of a set that another process has published just now: it goes back */
async function removeSet(
  taskFolder: string,
  name: string,
  isWanted: (folder: string) => Promise<boolean> = () => Promise.resolve(false),
): Promise<void> {
  const partial = await makePartialFolder(taskFolder, 'old');
  const [folder, aside] = [join(taskFolder, name), join(partial, name)];
  try {
    await rename(folder, aside);
    if (await isWanted(aside)) await rename(aside, folder);
  } catch (error) {
    const code = systemCode(error);
    // Another process removed or replaced it.
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EEXIST') throw toStorageError(error, 'remove', folder);
  } finally {
    await dropPartialFolder(partial);
  }
}

/** @returns false if something is in the way. @throws PATH_UNUSABLE, DISK_FULL */
async function publish(partial: string, taskFolder: string, name: string): Promise<boolean> {
  const folder = join(taskFolder, name);
  try {
    await syncFolder(partial);
    await rename(partial, folder);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(systemCode(error) ?? ''))
      throw toStorageError(error, 'create', folder);
    return false;
  }
  await syncFolder(taskFolder);
  return true;
}
