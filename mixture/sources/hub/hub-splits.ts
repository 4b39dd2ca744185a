/**
 * Which files of a repository are a split of a configuration: pure.
 *
 * Two layouts are known: the repository's own parquet files by name (`config/split-00000-of-00002.parquet`, `data/split-….parquet`,
 * `config/split/0000.parquet`), or as its README.md lists them, and the hub's conversion on `refs/convert/parquet`
 * (`config/split/0000.parquet`).
 */
import { parse } from 'yaml';
import { z } from 'zod';
import { nearestHint } from '../../../shared/nearest-names.ts';
import { createGlob } from '../glob.ts';

/** `train`, `train-00000-of-00002`, `train-00000-of-00002-0123456789abcdef`, `train-0`. */
const SHARD_SUFFIX = /(?:-\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?)?\.parquet$/u;
const DEFAULT_CONFIG = 'default';

export interface SplitPlace {
  readonly config: string;
  readonly split: string;
}

/** Config and split of a parquet file by its path; undefined where the path says neither. */
export function placeOfParquet(path: string): SplitPlace | undefined {
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

export interface CardSplit extends SplitPlace {
  /** Globs in the repository. */
  readonly patterns: readonly string[];
  readonly isDefault: boolean;
}

/** The splits that a README.md lists in its YAML header; none where it lists none in a form that is known. */
export function splitsOfCard(readme: string): CardSplit[] {
  const yaml = /^---\r?\n([^]*?)\r?\n---/u.exec(readme)?.[1];
  if (yaml === undefined) return [];
  let header: unknown;
  try {
    header = parse(yaml);
  } catch {
    return []; // its files may still be found by their names
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

/** The paths of a split as the card lists them. @param config undefined: the default one, or the only one */
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

/** The paths of a split by their names. @param config undefined: `default`, or the only one */
export function chooseByName(
  paths: readonly string[],
  { config, split }: { readonly config: string | undefined; readonly split: string },
): string[] {
  const placed = paths.map((path) => ({ path, place: placeOfParquet(path) }));
  const configs = placed.flatMap(({ place }) => place?.config ?? []);
  const wanted = config ?? (configs.includes(DEFAULT_CONFIG) ? DEFAULT_CONFIG : onlyName(configs));
  return placed.filter(({ place }) => place?.config === wanted && place?.split === split).map(({ path }) => path);
}

function onlyName(names: readonly string[]): string | undefined {
  return new Set(names).size === 1 ? names[0] : undefined;
}

/** What there is instead of a split that is not there, with the nearest names first. */
export function describeSplits(
  known: readonly SplitPlace[],
  { config, split }: { readonly config: string | undefined; readonly split: string },
): string {
  const configs = [...new Set(known.map((place) => place.config))];
  if (configs.length === 0)
    return 'it has no parquet files, and the hub made none of it: name its files with files and format';
  if (config === undefined && configs.length > 1 && !configs.includes(DEFAULT_CONFIG))
    return `it has several configurations, name one: ${configs.slice(0, 20).join(', ')}`;
  const inConfig = config === undefined ? known : known.filter((place) => place.config === config);
  if (inConfig.length === 0) {
    const hint = nearestHint(config ?? '', configs, `it has: ${configs.slice(0, 20).join(', ')}`);
    return `it has no configuration ${config ?? DEFAULT_CONFIG}; ${hint}`;
  }
  const splits = [...new Set(inConfig.map((place) => place.split))];
  if (splits.includes(`partial-${split}`))
    return 'the hub has converted only a part of that split: name its own files with files and format';
  const hint = nearestHint(split, splits, `it has: ${splits.slice(0, 20).join(', ')}`);
  return `it has no split ${split}${config === undefined ? '' : ` of configuration ${config}`}; ${hint}`;
}
