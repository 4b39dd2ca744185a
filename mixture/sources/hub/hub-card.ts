/**
 * The README.md of a data set (its card): the configurations that it lists, and the numbers of rows that it tells. Pure.
 *
 * Definition: a header of YAML between two lines `---`. `configs` lists configurations with `data_files` (a pattern, a
 * list of them, or patterns by split) below `data_dir`. `dataset_info` tells the rows of splits.
 */
import { z } from 'zod';
import { parseYaml } from '../../../shared/parse-yaml.ts';

const DEFAULT_CONFIG = 'default';

export interface CardConfig {
  readonly name: string;
  readonly isDefault: boolean;
  /** Folder of its files; '' is the top. */
  readonly folder: string;
  /** Undefined: by the names of the files in the folder. */
  readonly splits: readonly { readonly split: string; readonly patterns: readonly string[] }[] | undefined;
}

export interface HubCard {
  /** Empty if it lists none. */
  readonly configs: readonly CardConfig[];
  /** Rows of splits. */
  readonly numExamples: readonly { readonly config: string; readonly split: string; readonly rows: number }[];
  /** Why its list of files cannot be read. */
  readonly problem?: string;
}

export const NO_CARD: HubCard = { configs: [], numExamples: [] };

const patterns = z.union([z.string().transform((path) => [path]), z.array(z.string())]);
const dataFiles = z.union([
  z.array(z.object({ split: z.string(), path: patterns })),
  patterns.transform((path) => [{ split: 'train', path }]),
  z.record(z.string(), patterns).transform((of) => Object.entries(of).map(([split, path]) => ({ split, path }))),
]);
const configsSchema = z.array(
  z.object({
    config_name: z.string().default(DEFAULT_CONFIG),
    data_dir: z.string().nullish(),
    data_files: dataFiles.nullish(),
    default: z.boolean().nullish(),
  }),
);
const infoSchema = z.object({
  config_name: z.string().default(DEFAULT_CONFIG),
  splits: z.array(z.object({ name: z.string(), num_examples: z.int().nonnegative().optional() })).optional(),
});

/** @param readme its text, from the start */
export function parseCard(readme: string): HubCard {
  const [, yaml, end] = /^\uFEFF?---[ \t]*\r?\n([^]*?)(?:^(---)[ \t]*\r?$|$(?![^]))/mu.exec(readme) ?? [];
  if (yaml === undefined) return NO_CARD;
  // Without a list of configurations the files are found by their names, whatever is wrong with the header.
  const problem = (why: string): HubCard =>
    /^["']?configs["']?\s*:/mu.test(yaml) ? { ...NO_CARD, problem: why } : NO_CARD;
  if (end === undefined) return problem('its YAML header has no end');
  let header: unknown;
  try {
    header = parseYaml(yaml, 'README.md').value;
  } catch (error) {
    return problem(`its YAML header cannot be parsed (${firstLine(error)})`);
  }
  const { configs, dataset_info: info } = (isObject(header) ? header : {}) as Record<string, unknown>;
  const numExamples = numExamplesOf(info);
  if (configs === undefined || configs === null) return { configs: [], numExamples };
  const parsed = configsSchema.safeParse(configs);
  if (!parsed.success) return { configs: [], numExamples, problem: 'its list configs has an unknown form' };
  const known: CardConfig[] = [];
  for (const { config_name: name, data_dir: folder, data_files: files, default: isDefault } of parsed.data) {
    const entry = {
      name,
      isDefault: isDefault === true,
      folder: normalize(folder ?? ''),
      splits: files?.map(({ split, path }) => ({ split, patterns: path.map(normalize) })),
    };
    const outside = entry.splits
      ?.flatMap((of) => of.patterns)
      .find((one) => /^[a-z0-9]+:\/\/|(^|\/)\.\.(\/|$)/iu.test(one));
    if (outside !== undefined) return { configs: [], numExamples, problem: `${outside} is not in the repository` };
    if (known.some((other) => other.name === name))
      return { configs: [], numExamples, problem: `it lists configuration ${name} twice` };
    const splits = entry.splits?.map(({ split }) => split) ?? [];
    if (new Set(splits).size < splits.length)
      return { configs: [], numExamples, problem: `it lists a split of configuration ${name} twice` };
    known.push(entry);
  }
  return { configs: known, numExamples };
}

/** The rows that the card tells for a split. @param config of the files that were found */
export function expectedRows({ configs, numExamples }: HubCard, config: string, split: string): number | undefined {
  const told = [...new Set(numExamples.map((entry) => entry.config))];
  // The only entry is that of the only configuration, whatever their names.
  const name = told.length === 1 && configs.length <= 1 ? told[0] : config;
  return numExamples.find((entry) => entry.config === name && entry.split === split)?.rows;
}

function numExamplesOf(info: unknown): HubCard['numExamples'] {
  const entries: unknown[] = Array.isArray(info) ? info : [info];
  return entries.flatMap((entry) => {
    const parsed = infoSchema.safeParse(entry);
    if (!parsed.success) return [];
    const { config_name: config, splits = [] } = parsed.data;
    return splits.flatMap(({ name: split, num_examples: rows }) =>
      rows === undefined ? [] : [{ config, split, rows }],
    );
  });
}

/** Without `./` and slashes at the ends. */
function normalize(path: string): string {
  return path.replace(/^(?:\.?\/)+|^\.$|\/+$/gu, '');
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}
