/**
 * Loads a RunConfig from a YAML file, `--set a.b=value` and flags, and checks it; an error lists every problem with its path.
 * Later sources win: file < `--set` < flags. Relative paths in a file are relative to that file.
 */
import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { BYTE_VOCABULARY } from '../byte-vocabulary.ts';
import { TrainerError } from '../errors.ts';
import { nearestNames } from '../nearest-names.ts';
import { parseYaml } from '../parse-yaml.ts';
import { readSmallFile } from '../small-file.ts';
import { localPathOf } from '../storage/location.ts';
import { DECIDES_BITS, DECIDES_BITS_IF_SET, type Bits } from './bits.ts';
import { runConfigSchema, type RunConfig } from './schema.ts';

/** A value at a place of the tree, e.g. { path: ['training', 'steps'], value: 12, origin: '--steps' }. */
export interface ConfigOverride {
  readonly path: readonly string[];
  readonly value: unknown;
  readonly origin: string;
}

/** Paths of the tree that hold file names. */
const FILE_FIELDS = [
  ['mixture', 'path'],
  ['mixture', 'tokenizer'],
  ['mixture', 'given'],
  ['mixture', 'prepared'],
  ['init', 'from'],
  ['init', 'folder'],
] as const;

/**
 * `a.b=value` → an override. The value is YAML: `true`, `1e-4` and `[1, 2]` are a boolean, a number and a list.
 * @throws CONFIG_INVALID
 */
export function parseSetting(text: string): ConfigOverride {
  const at = text.indexOf('=');
  const path = text.slice(0, at).split('.');
  if (at < 1 || path.some((part) => part === ''))
    throw new TrainerError('CONFIG_INVALID', `--set: expected a.b=value, got ${JSON.stringify(text)}`);
  const origin = `--set ${path.join('.')}`;
  return { path, value: parseYaml(text.slice(at + 1), origin).value, origin };
}

/**
 * Reads a config file and applies the overrides.
 * @throws PATH_UNUSABLE if the file cannot be read, CONFIG_INVALID with all problems
 */
export async function loadConfig(file: string, overrides: readonly ConfigOverride[]): Promise<RunConfig> {
  return checkConfig(await loadTree(file, overrides), file);
}

/**
 * The same before it is checked: settings may be missing or wrong.
 * @throws PATH_UNUSABLE if the file cannot be read, CONFIG_INVALID
 */
export async function loadTree(file: string, overrides: readonly ConfigOverride[]): Promise<Tree> {
  let text: string;
  try {
    text = (await readSmallFile(file)).toString('utf8');
  } catch (error) {
    throw new TrainerError('PATH_UNUSABLE', `cannot read the config ${file}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const tree = parseYaml(text, file).value;
  if (!isTree(tree)) throw new TrainerError('CONFIG_INVALID', `${file}: expected a mapping at the top`);
  resolveFiles(tree, dirname(resolve(file)));
  return overrideTree(tree, overrides);
}

/** Applies overrides to a resolved config, e.g. that of a checkpoint; does not check it. @throws CONFIG_INVALID */
export function overrideTree(resolved: Tree, overrides: readonly ConfigOverride[]): Tree {
  const tree = structuredClone(resolved);
  const typed = overrides.map((override) => {
    const field = FILE_FIELDS.find((known) => known.join('.') === override.path.join('.'));
    const local = field === undefined ? undefined : localFileOf(field, override.value);
    return local === undefined ? override : { ...override, value: resolve(local) };
  });
  for (const override of typed) chooseKind(tree, override);
  for (const override of typed) applyOverride(tree, override);
  return tree;
}

/** @throws CONFIG_INVALID with every problem on its own line */
export function checkConfig(tree: unknown, origin: string): RunConfig {
  const parsed = runConfigSchema.safeParse(tree);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => describeIssue(issue));
  const list = problems.map((problem) => `  ${problem}`).join('\n');
  throw new TrainerError('CONFIG_INVALID', `${origin} has ${problems.length} problem(s):\n${list}`, {
    cause: parsed.error,
  });
}

/** A setting, i.e. a leaf of the schema. Alternatives of a union may have leaves of the same path. */
export interface Setting {
  readonly path: readonly string[];
  /** Undefined if the schema does not say it; a test forbids that. */
  readonly bits: Bits | undefined;
  /** Undefined where it has none. */
  readonly default: unknown;
}

/** All settings, in the order of the schema. */
export function listSettings(): readonly Setting[] {
  return (settings ??= leavesOf(configJsonSchema(), []));
}
let settings: readonly Setting[] | undefined;

/**
 * The settings that decide the bytes of the parameters, in the order of the schema. Runs with equal numerics, prepared mixture, engine
 * fingerprint and rate changes train the same bits, for any number of workers.
 */
export function numericsOf(config: RunConfig, { withDefaults = true } = {}): Tree {
  const numerics: Tree = {};
  for (const { path, bits, default: usual } of listSettings()) {
    if (bits !== DECIDES_BITS.bits && bits !== DECIDES_BITS_IF_SET.bits) continue;
    const value = path.reduce<unknown>((at, part) => (isTree(at) ? at[part] : undefined), config);
    if (!withDefaults && bits === DECIDES_BITS_IF_SET.bits && isDeepStrictEqual(value, usual)) continue;
    if (value !== undefined) applyOverride(numerics, { path, value, origin: 'numericsOf' });
  }
  return numerics;
}

/** SHA-256 (hex) of `numericsOf`, without the defaults of settings that are younger than recorded hashes. */
export function numericsHash(config: RunConfig): string {
  return hashTree(numericsOf(config, { withDefaults: false }));
}

/** Fingerprint of the settings that a worker loads at its start: a worker with the same one need not start again. */
export function workerHash(config: RunConfig): string {
  const { compute, collective, feed, init } = config;
  return hashTree({ numerics: numericsHash(config), compute, collective, feed, init });
}

function hashTree(tree: Tree): string {
  return createHash('sha256')
    .update(JSON.stringify(sortKeys(tree)))
    .digest('hex');
}

/** A mapping parsed from YAML or JSON. */
export type Tree = Record<string, unknown>;

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The path that a setting with a file name means; undefined where it means no local file. */
function localFileOf([, name]: readonly [string, string], value: unknown): string | undefined {
  if (typeof value !== 'string' || (name === 'tokenizer' && value === BYTE_VOCABULARY)) return undefined;
  return localPathOf(value);
}

function resolveFiles(tree: Tree, folder: string): void {
  for (const [section, field] of FILE_FIELDS) {
    const parent = tree[section];
    if (!isTree(parent)) continue;
    const value = parent[field];
    const local = localFileOf([section, field], value);
    if (local !== undefined) parent[field] = resolve(folder, local);
  }
}

/** Another `kind` of a section has other settings: those of the kind before go. */
function chooseKind(tree: Tree, { path, value }: ConfigOverride): void {
  const section = path.slice(0, -1).reduce<unknown>((at, part) => (isTree(at) ? at[part] : undefined), tree);
  if (path.at(-1) !== 'kind' || !isTree(section) || section['kind'] === value) return;
  for (const name of Object.keys(section)) Reflect.deleteProperty(section, name);
}

function applyOverride(tree: Tree, { path, value, origin }: ConfigOverride): void {
  let at = tree;
  for (const part of path.slice(0, -1)) {
    const child = at[part] ?? (at[part] = {});
    if (!isTree(child)) throw new TrainerError('CONFIG_INVALID', `${origin}: ${part} is a value, not a section`);
    at = child;
  }
  const last = path.at(-1)!;
  if (value === undefined) Reflect.deleteProperty(at, last);
  else at[last] = value;
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const path = issue.path.map(String);
  if (issue.code !== 'unrecognized_keys') return [`${path.join('.') || '(top)'}: ${issue.message}`];
  const known = fieldNames(path);
  return issue.keys.map((key) => {
    const near = nearestNames(key, known);
    const others = known.length > 0 ? `; known here: ${known.join(', ')}` : ' of this kind';
    const hint = near.length > 0 ? `, did you mean ${near.join(' or ')}?` : others;
    return `${[...path, key].join('.')}: no such setting${hint}`;
  });
}

/** The schema as JSON schema, as far as it is read here. */
interface Section {
  readonly properties?: Readonly<Record<string, Section>>;
  readonly anyOf?: readonly Section[];
  readonly oneOf?: readonly Section[];
  readonly bits?: Bits;
  readonly default?: unknown;
}

function configJsonSchema(): Section {
  return z.toJSONSchema(runConfigSchema, { io: 'input', unrepresentable: 'any' }) as Section;
}

/** @param inherited what the default of a section above says */
function leavesOf(section: Section, path: readonly string[], inherited?: unknown): Setting[] {
  const { properties, anyOf, oneOf, bits, default: usual = inherited } = section;
  if (properties !== undefined)
    return Object.entries(properties).flatMap(([name, child]) =>
      leavesOf(child, [...path, name], isTree(usual) ? usual[name] : undefined),
    );
  const alternatives = anyOf ?? oneOf;
  if (alternatives !== undefined) return alternatives.flatMap((alternative) => leavesOf(alternative, path, usual));
  return [{ path, bits, default: usual }];
}

/** Names of the settings in the section at `path` of the schema. */
function fieldNames(path: readonly string[]): string[] {
  let section = configJsonSchema();
  for (const part of path) section = section.properties?.[part] ?? {};
  return Object.keys(section.properties ?? {});
}

function sortKeys(value: unknown): unknown {
  if (!isTree(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sortKeys(value[key])]),
  );
}
