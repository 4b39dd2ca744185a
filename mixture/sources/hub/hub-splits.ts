/**
 * Finds the files of a split in a repository. Pure.
 *
 * Definition: two layouts are known. Parquet files of the repository, by name (`config/split-00000-of-00002.parquet`,
 * `data/split-….parquet`, `config/split/0000.parquet`) or as its README.md lists them. And the hub's conversion on
 * `refs/convert/parquet` (`config/split/0000.parquet`).
 */
import { z } from 'zod';
import { nearestHint } from '../../../shared/nearest-names.ts';
import { parseYaml } from '../../../shared/parse-yaml.ts';
import { createGlob } from '../glob.ts';

/** `train`, `train-00000-of-00002`, `train-00000-of-00002-0123456789abcdef`, `train-0`. */
const SHARD_SUFFIX = /(?:-\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?)?\.parquet$/u;
const DEFAULT_CONFIG = 'default';

export interface SplitName {
  readonly config: string;
  readonly split: string;
}

/** Config and split of a parquet file, from its path. Undefined if the path names neither. */
export function splitNameOf(path: string): SplitName | undefined {
  const parts = path.split('/');
  const name = parts.pop()!;
  const suffix = SHARD_SUFFIX.exec(name);
  if (suffix === null) return undefined;
  const stem = name.slice(0, suffix.index);
  const folders = parts.filter((part) => part !== 'data');
  if (/^\d+$/u.test(stem)) {
    const split = folders.pop();
    return split === undefined ? undefined : { config: folders.join('/') || DEFAULT_CONFIG, split };
  }
  return { config: folders.join('/') || DEFAULT_CONFIG, split: stem };
}

const patterns = z.union([z.string().transform((path) => [path]), z.array(z.string())]);
const dataFiles = z.union([
  z.array(z.object({ split: z.string(), path: patterns })),
  patterns.transform((path) => [{ split: 'train', path }]),
  z.record(z.string(), patterns).transform((of) => Object.entries(of).map(([split, path]) => ({ split, path }))),
]);
const cardSchema = z.object({
  configs: z.array(
    z.object({
      config_name: z.string().default(DEFAULT_CONFIG),
      data_dir: z.string().optional(),
      data_files: dataFiles.optional(),
      default: z.boolean().optional(),
    }),
  ),
});

export interface CardSplit extends SplitName {
  /** Globs in the repository. */
  readonly patterns: readonly string[];
  readonly isDefault: boolean;
}

/** The splits that a README.md lists in its YAML header. Empty if it lists none in a known form. */
export function splitsOfCard(readme: string): CardSplit[] {
  const yaml = /^---\r?\n([^]*?)\r?\n---/u.exec(readme)?.[1];
  if (yaml === undefined) return [];
  let header: unknown;
  try {
    header = parseYaml(yaml, 'README.md').value;
  } catch {
    return []; // its files may still be found by name
  }
  const card = cardSchema.safeParse(header);
  if (!card.success) return [];
  return card.data.configs.flatMap(
    ({ config_name: config, data_dir: folder, data_files: files = [], default: isDefault }) =>
      files.map(({ split, path }) => ({
        config,
        split,
        isDefault: isDefault === true || config === DEFAULT_CONFIG,
        patterns: path.map((pattern) => (folder === undefined ? pattern : `${folder.replace(/\/$/u, '')}/${pattern}`)),
      })),
  );
}

/** The paths of a split, by the list in the README. @param config undefined: the default one, or the only one */
export function chooseByCard(
  paths: readonly string[],
  splits: readonly CardSplit[],
  { config, split }: { readonly config: string | undefined; readonly split: string },
): string[] {
  const wanted =
    config ?? onlyName(splits.map((entry) => entry.config)) ?? splits.find(({ isDefault }) => isDefault)?.config;
  const entry = splits.find((candidate) => candidate.config === wanted && candidate.split === split);
  if (entry === undefined) return [];
  const matches = entry.patterns.map(createGlob);
  return paths.filter((path) => matches.some((match) => match(path)));
}

/** The paths of a split, by file name. @param config undefined: `default`, or the only one */
export function chooseByName(
  paths: readonly string[],
  { config, split }: { readonly config: string | undefined; readonly split: string },
): string[] {
  const named = paths.map((path) => ({ path, name: splitNameOf(path) }));
  const configs = named.flatMap(({ name }) => name?.config ?? []);
  const wanted = config ?? (configs.includes(DEFAULT_CONFIG) ? DEFAULT_CONFIG : onlyName(configs));
  return named.filter(({ name }) => name?.config === wanted && name?.split === split).map(({ path }) => path);
}

function onlyName(names: readonly string[]): string | undefined {
  return new Set(names).size === 1 ? names[0] : undefined;
}

/** Says what the data set has instead of a missing split, nearest names first. */
export function describeSplits(
  known: readonly SplitName[],
  { config, split }: { readonly config: string | undefined; readonly split: string },
): string {
  const configs = [...new Set(known.map((name) => name.config))];
  if (configs.length === 0)
    return 'it has no parquet files, and the hub has not converted it: name its files with files and format';
  if (config === undefined && configs.length > 1 && !configs.includes(DEFAULT_CONFIG))
    return `it has several configurations, name one: ${configs.slice(0, 20).join(', ')}`;
  const inConfig = config === undefined ? known : known.filter((name) => name.config === config);
  if (inConfig.length === 0) {
    const hint = nearestHint(config ?? '', configs, `it has: ${configs.slice(0, 20).join(', ')}`);
    return `it has no configuration ${config ?? DEFAULT_CONFIG}; ${hint}`;
  }
  const splits = [...new Set(inConfig.map((name) => name.split))];
  if (splits.includes(`partial-${split}`))
    return 'the hub has converted only a part of that split: name the original files with files and format';
  const hint = nearestHint(split, splits, `it has: ${splits.slice(0, 20).join(', ')}`);
  return `it has no split ${split}${config === undefined ? '' : ` of configuration ${config}`}; ${hint}`;
}
