/**
 * Finds the files of a split in a repository. Pure. Nothing is guessed: what may mean several things is refused, and the
 * error lists the candidates and how to name the files.
 *
 * Definition: the rules are those of the `datasets` library, 5.2.0 (data_files.py). README.md may list the files of its
 * configurations. Else `data/SPLIT-00000-of-00002….parquet` names any splits. Else a word (train, training; validation,
 * valid, val, dev; test, testing, eval, evaluation) in the names of folders, else in the names of files, names the three
 * usual ones; `-`, `.`, `_`, a space or a digit separates words. Else all files are the split train.
 * Ours: without a list in README.md a folder is a configuration (`mnli/train-….parquet`), and a file or folder whose
 * whole name is the split belongs to it. The hub's conversion has `config/split/0000.parquet`.
 */
import { basename, dirname } from 'node:path/posix';
import { listNames } from '../../../shared/list-names.ts';
import { nearestHint } from '../../../shared/nearest-names.ts';
import { createGlob, isGlob } from '../glob.ts';
import type { HubCard } from './hub-card.ts';

const DEFAULT_CONFIG = 'default';
const MAX_SHOWN = 20;
const SYNTAX = { classes: true };

export interface SplitQuery {
  readonly config: string | undefined;
  readonly split: string;
}

/** A split of a configuration. */
interface SplitName {
  readonly config: string;
  readonly split: string;
}

export type SplitFiles =
  /** @property config the configuration of the files */
  | { readonly kind: 'files'; readonly config: string; readonly paths: readonly string[] }
  /** The split is there, but not as parquet files: the hub may have converted it. */
  | { readonly kind: 'other-format'; readonly config: string | undefined; readonly paths: readonly string[] }
  /** No file of the repository is of that split: the hub may have converted other files. */
  | { readonly kind: 'none'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

const NAME_THEM = 'name its files with files and format';
const refused = (reason: string): SplitFiles => ({ kind: 'refused', reason: `${reason}; ${NAME_THEM}` });

/** The files of a split, by README.md and names. @param paths of all files of the repository */
export function findSplit(paths: readonly string[], card: HubCard, query: SplitQuery): SplitFiles {
  if (card.problem !== undefined) return refused(`README.md does not say which files a split has: ${card.problem}`);
  const data = paths.filter(isData);
  const isListed = card.configs.length > 0;
  const found = isListed ? byCard(data, card, query) : byNames(data, query);
  if (found.kind !== 'files') return found;
  const own = found.paths.filter(isParquet);
  const others = found.paths.filter((path) => !isParquet(path));
  if (own.length === 0) return { kind: 'other-format', config: isListed ? found.config : query.config, paths: others };
  const larger = mostCommonExtension(others);
  if (larger.count > own.length)
    return refused(`split ${query.split} has ${own.length} parquet files and ${larger.count} of ${larger.extension}`);
  const problem = shardProblem(own, data);
  return problem === undefined ? { ...found, paths: own } : refused(problem);
}

/** The files of a split in the hub's conversion. */
export function findConverted(paths: readonly string[], query: SplitQuery): SplitFiles {
  const named = paths.flatMap((path) => {
    const [, config, split] = /^(.+)\/([^/]+)\/\d+\.parquet$/u.exec(path) ?? [];
    return config === undefined || split === undefined ? [] : [{ path, config, split }];
  });
  const configs = [...new Set(named.map(({ config }) => config))];
  const config = query.config ?? (configs.includes(DEFAULT_CONFIG) ? DEFAULT_CONFIG : onlyOne(configs));
  const ofSplit = named.filter((file) => file.config === config && file.split === query.split);
  if (config !== undefined && ofSplit.length > 0)
    return { kind: 'files', config, paths: ofSplit.map(({ path }) => path) };
  return { kind: 'none', reason: describeMissing(named, query) };
}

/** Why the split is not there, from the splits that are. */
function describeMissing(known: readonly SplitName[], { config, split }: SplitQuery): string {
  const configs = [...new Set(known.map((name) => name.config))];
  if (configs.length === 0) return `it has no parquet files, and the hub has not converted it: ${NAME_THEM}`;
  if (config === undefined && configs.length > 1 && !configs.includes(DEFAULT_CONFIG))
    return `it has several configurations, name one: ${shown(configs)}`;
  const inConfig = config === undefined ? known : known.filter((name) => name.config === config);
  if (inConfig.length === 0)
    return `it has no configuration ${config ?? DEFAULT_CONFIG}; ${nearestHint(config ?? '', configs, `it has: ${shown(configs)}`)}`;
  const splits = [...new Set(inConfig.map((name) => name.split))];
  if (splits.includes(`partial-${split}`))
    return 'the hub has converted only a part of that split: name the original files with files and format';
  const of = config === undefined ? '' : ` of configuration ${config}`;
  const hint = nearestHint(split, splits, `it has: ${shown(splits)}`);
  return `it has no split ${split}${of}; ${hint}; or ${NAME_THEM}`;
}

function byCard(data: readonly string[], { configs }: HubCard, { config, split }: SplitQuery): SplitFiles {
  const names = configs.map(({ name }) => name);
  const defaults = configs.filter(({ name, isDefault }) => isDefault || name === DEFAULT_CONFIG);
  const asked = config === undefined ? (onlyOne(configs) ?? onlyOne(defaults)) : undefined;
  const entry = asked ?? configs.find(({ name }) => name === config);
  if (entry === undefined) {
    const several = defaults.length > 1 ? `, of which ${defaults.length} are the default` : '';
    const reason =
      config === undefined
        ? `it has several configurations${several}, name one: ${shown(names)}`
        : `it has no configuration ${config}; ${nearestHint(config, names, `it has: ${shown(names)}`)}`;
    return { kind: 'refused', reason };
  }
  const { name, folder, splits } = entry;
  if (splits === undefined) {
    const found = bySplitWords(
      data.filter((path) => isBelow(path, folder) && !isHidden(path, folder)),
      folder,
      split,
    );
    return found.kind === 'files' ? { ...found, config: name } : found;
  }
  const patterns = splits.find((candidate) => candidate.split === split)?.patterns;
  if (patterns === undefined) {
    const known = splits.map((candidate) => ({ config: name, split: candidate.split }));
    return { kind: 'refused', reason: describeMissing(known, { config: name, split }) };
  }
  const chosen = new Set<string>();
  for (const pattern of patterns) {
    const full = folder === '' ? pattern : `${folder}/${pattern}`;
    const matches = isGlob(full, SYNTAX) ? createGlob(full, SYNTAX) : undefined;
    const found = data.filter((path) => path === full || (matches?.(path) === true && !isHidden(path, full)));
    if (found.length === 0 && matches === undefined)
      return refused(`README.md names the file ${full} for split ${split}, which the repository does not have`);
    for (const path of found) chosen.add(path);
  }
  if (chosen.size === 0)
    return refused(`no file matches what README.md lists for split ${split}: ${listNames(patterns)}`);
  return { kind: 'files', config: name, paths: data.filter((path) => chosen.has(path)) };
}

function byNames(all: readonly string[], { config, split }: SplitQuery): SplitFiles {
  const data = all.filter((path) => !isHidden(path, ''));
  const roots = config === undefined || config === DEFAULT_CONFIG ? [''] : [config, `data/${config}`];
  const root = roots.find((folder) => data.some((path) => isBelow(path, folder)));
  if (root === undefined) return { kind: 'none', reason: describeMissing(data.map(placeOf), { config, split }) };
  const inRoot = data.filter((path) => isBelow(path, root));
  const found = bySplitWords(inRoot, root, split);
  if (found.kind !== 'files') return found;
  if (config !== undefined) return { ...found, config };
  const configs = [...new Set(found.paths.map((path) => placeOf(path).config))];
  const only = onlyOne(configs);
  if (only !== undefined) return { ...found, config: only };
  return {
    kind: 'refused',
    reason: `it has several configurations, name one: ${shown(configs)}; or ${NAME_THEM}: ${shown(found.paths)}`,
  };
}

const SEPARATOR = '[-._ 0-9]';
const WORDS: Readonly<Record<string, readonly string[]>> = {
  train: ['train', 'training'],
  validation: ['validation', 'valid', 'dev', 'val'],
  test: ['test', 'testing', 'eval', 'evaluation'],
};
/** Split → whether a part of a path has one of its words: a folder's whole name or a part of it, a file's name up to a separator. */
const RULES = Object.entries(WORDS).map(([split, words]) => ({
  split,
  folder: new RegExp(`^(?:.*${SEPARATOR})?(?:${words.join('|')})(?:${SEPARATOR}.*)?$`, 'u'),
  file: new RegExp(`^(?:.*${SEPARATOR})?(?:${words.join('|')})${SEPARATOR}`, 'u'),
}));
/** `data/SPLIT-00000-of-00002…`. */
const SHARDED = /^data\/([^/]*)-\d{5}-of-\d{5}[^/]*\.[^/]*$/u;

/** @param root folder that the rules start at */
function bySplitWords(data: readonly string[], root: string, split: string): SplitFiles {
  const relative = (path: string) => (root === '' ? path : path.slice(root.length + 1));
  const files = (paths: readonly string[]): SplitFiles => ({ kind: 'files', config: DEFAULT_CONFIG, paths });
  const none = (splits: readonly string[]): SplitFiles => ({
    kind: 'none',
    reason: describeMissing(
      splits.map((name) => ({ config: DEFAULT_CONFIG, split: name })),
      { config: undefined, split },
    ),
  });
  const sharded = data.flatMap((path) => {
    const of = SHARDED.exec(relative(path))?.[1];
    return of === undefined ? [] : [{ path, split: of }];
  });
  if (sharded.length > 0) {
    const own = sharded.filter((file) => file.split === split);
    return own.length > 0 ? files(own.map(({ path }) => path)) : none(sharded.map((file) => file.split));
  }
  const { rule, splits } = splitWords(data, relative);
  const ofWord = splits.find((found) => found.split === split)?.paths;
  if (ofWord !== undefined) {
    const stems = ofWord.flatMap((path) => shardOf(path)?.stem ?? []).map((stem) => basename(stem));
    const names = [...new Set(stems)];
    if (rule === 'file' && names.length > 1)
      return refused(
        `files of several splits have a word of ${split} in their names: ${listNames(names.map((name) => `${name}-*`))}`,
      );
    const inFolders = new Set(splits.flatMap(({ paths }) => paths));
    const named = splitWords(
      data.filter((path) => !inFolders.has(path)),
      relative,
    ).splits;
    const left = named.find((found) => found.split === split)?.paths ?? [];
    if (left.length > 0)
      return refused(
        `some files have the word ${split} in the names of their folders (${showPaths(ofWord)}), others in their own: ${showPaths(left)}`,
      );
    return files(ofWord);
  }
  const exact = data.filter((path) => placeOf(relative(path)).split === split);
  const isUsual = split in WORDS;
  if (exact.length > 0 && !(isUsual && splits.length > 0)) return files(exact);
  if (splits.length === 0 && split === 'train' && data.length > 0) {
    const odd = data.filter((path) => splitWords([path.toLowerCase()], relative).splits.length > 0);
    return odd.length === 0
      ? files(data)
      : refused(`the words of splits are known in small letters only: ${showPaths(odd)}`);
  }
  const ofShards = data.filter((path) => shardOf(path) !== undefined).map((path) => placeOf(relative(path)).split);
  const known = splits.length === 0 && data.length > 0 ? ['train'] : splits.map((found) => found.split);
  return none([...known, ...ofShards]);
}

interface SplitPaths {
  readonly split: string;
  readonly paths: readonly string[];
}

/** The splits that have a file by the words in folders; if none has, by those in names of files. */
function splitWords(
  data: readonly string[],
  relative: (path: string) => string,
): { readonly rule: 'folder' | 'file'; readonly splits: readonly SplitPaths[] } {
  const findBy = (isOf: (folders: readonly string[], name: string, words: (typeof RULES)[number]) => boolean) =>
    RULES.map((words) => ({
      split: words.split,
      paths: data.filter((path) => {
        const parts = relative(path).split('/');
        return isOf(parts.slice(0, -1), parts.at(-1)!, words);
      }),
    })).filter(({ paths }) => paths.length > 0);
  const byFolder = findBy((folders, _name, { folder }) => folders.some((part) => folder.test(part)));
  if (byFolder.length > 0) return { rule: 'folder', splits: byFolder };
  return { rule: 'file', splits: findBy((_folders, name, { file }) => file.test(name)) };
}

/** `train`, `train-00000-of-00002`, `train-00000-of-00002-0123456789abcdef`, `train-0`. */
const SHARD_SUFFIX = /(?:-\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?)?\.[^/]*$/u;

/** The configuration and split that the whole names of folders and file say. */
function placeOf(path: string): SplitName {
  const parts = path.split('/');
  const stem = parts.pop()!.replace(SHARD_SUFFIX, '');
  const folders = parts.filter((part) => part !== 'data');
  const isNumber = /^\d+$/u.test(stem);
  // A folder with the word of a split is no configuration.
  const at = folders.findIndex((part) => RULES.some(({ folder }) => folder.test(part)));
  if (isNumber || at >= 0) {
    const splitAt = at >= 0 ? at : folders.length - 1;
    return {
      config: folders.slice(0, Math.max(0, splitAt)).join('/') || DEFAULT_CONFIG,
      split: folders[splitAt] ?? stem,
    };
  }
  return { config: folders.join('/') || DEFAULT_CONFIG, split: stem };
}

interface Shard {
  /** Path before the numbers. */
  readonly stem: string;
  readonly index: number;
  readonly total: number;
}

/** `train-00000-of-00002.parquet`, `part.1-of-3.parquet`. */
function shardOf(path: string): Shard | undefined {
  const [, name, index, total] = /^(.*?)[-._]?(\d+)[-._]of[-._](\d+)(?!\d)/u.exec(basename(path)) ?? [];
  if (name === undefined || Number(index) > Number(total)) return undefined;
  const folder = dirname(path);
  return { stem: folder === '.' ? name : `${folder}/${name}`, index: Number(index), total: Number(total) };
}

/**
 * Why the shards of a split are not one whole upload. The files of an upload have the same number behind `-of-`, and each
 * index once.
 * @param all files of the repository: a list may leave out shards on purpose, but they must be there
 */
function shardProblem(chosen: readonly string[], all: readonly string[]): string | undefined {
  const inRepository = shardsByStem(all);
  for (const [stem, shards] of shardsByStem(chosen)) {
    const totals = [...new Set(shards.map(({ total }) => total))].sort((a, b) => a - b);
    const uploads = totals.map((total) => {
      const indices = inRepository
        .get(stem)!
        .filter((shard) => shard.total === total)
        .map(({ index }) => index);
      return { total, there: new Set(indices) };
    });
    const describe = ({ total, there }: (typeof uploads)[number]) =>
      `${stem}-*-of-${total} (${there.size} of ${total} shards)`;
    if (uploads.length > 1) return `shards of several uploads lie in one folder: ${listNames(uploads.map(describe))}`;
    const upload = uploads[0]!;
    if (new Set(shards.map(({ index }) => index)).size < shards.length)
      return `shards of several uploads lie in one folder: ${stem}-*-of-${upload.total} has a shard twice among ${shards.length} files`;
    const first = upload.there.has(0) ? 0 : 1; // some tools count from 1
    const lacking: number[] = [];
    for (let index = first; index < first + upload.total && lacking.length <= MAX_SHOWN; index++)
      if (!upload.there.has(index)) lacking.push(index);
    if (upload.there.size < upload.total)
      return `shards are missing: ${describe(upload)}, without ${listNames(lacking, { most: MAX_SHOWN })}`;
  }
  return undefined;
}

function shardsByStem(paths: readonly string[]): Map<string, Shard[]> {
  const groups = new Map<string, Shard[]>();
  for (const path of paths) {
    const shard = shardOf(path);
    if (shard !== undefined) groups.set(shard.stem, [...(groups.get(shard.stem) ?? []), shard]);
  }
  return groups;
}

/** Extensions of files that hold rows. Others (README, pictures, scripts) belong to no split. */
const DATA = /\.(?:parquet|geoparquet|gpq|csv|tsv|jsonl?|ndjson|txt|arrow|xml|tar|zip|hdf5|h5)(?:\.[^/]*)?$/iu;
const NO_DATA = new Set([
  'config.json',
  'dataset_info.json',
  'dataset_infos.json',
  'dummy_data.zip',
  'dataset_dict.json',
]);

function isData(path: string): boolean {
  return DATA.test(path) && !NO_DATA.has(basename(path));
}

function isParquet(path: string): boolean {
  return path.endsWith('.parquet');
}

/** Whether a part begins with `.`, or a folder with `__`, that the pattern does not name. */
function isHidden(path: string, pattern: string): boolean {
  const count = (text: string) => {
    const parts = text.split('/');
    return parts.filter((part, i) => part.startsWith('.') || (i < parts.length - 1 && part.startsWith('__'))).length;
  };
  return count(path) !== count(pattern);
}

function isBelow(path: string, folder: string): boolean {
  return folder === '' || path.startsWith(`${folder}/`);
}

function onlyOne<T>(values: readonly T[]): T | undefined {
  return values.length === 1 ? values[0] : undefined;
}

function shown(names: readonly string[]): string {
  return names.slice(0, MAX_SHOWN).join(', ');
}

function showPaths(paths: readonly string[]): string {
  return listNames(paths, { most: 6 });
}

function mostCommonExtension(paths: readonly string[]): { extension: string; count: number } {
  const counts = new Map<string, number>();
  for (const path of paths) {
    const extension = /\.[^/]*$/u.exec(basename(path))?.[0] ?? '';
    counts.set(extension, (counts.get(extension) ?? 0) + 1);
  }
  const [extension, count] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? ['', 0];
  return { extension, count };
}
