/**
 * Native engines that `exmix engine install` has put under exmix's home: reads their manifests and checks their folders.
 *
 * An engine is a folder `<home>/engines/<id>` with `engine.json`, written last: a folder without it does not exist for a reader.
 * The id names the content (libraries, sources of the addon, platform), so a finished folder never changes.
 * Assumes a file system where rename within a folder is atomic.
 *
 *     engine.json                        the manifest
 *     lib/napi-v8/tfjs_binding.node      tfjs-node's addon; its RUNPATH is $ORIGIN/../../deps/lib
 *     lib/napi-v8/session_addon.node     ours (worker/engine/native/session and kernels), likewise
 *     deps/lib/libtensorflow_cc.so.2     and libtensorflow_framework.so.2
 *     deps/include/                      the C headers, for addons built later
 *     deps/nvidia/<package>/lib/         CUDA's libraries; only with flavour cuda
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { hashFile, systemCode, toStorageError } from './atomic-file.ts';
import { TrainerError } from './errors.ts';
import { listNames } from './list-names.ts';
import { readSmallFile } from './small-file.ts';

export const ENGINE_FLAVOURS = ['cpu', 'cuda'] as const;
export type EngineFlavour = (typeof ENGINE_FLAVOURS)[number];

/**
 * Raised with every change of the layout, of the manifest, or of the session addon's functions or kernels. An engine of another format is
 * not used; `exmix engine install` rebuilds it without a download.
 */
export const ENGINE_FORMAT = 4;
export const ENGINE_MANIFEST = 'engine.json';
/** The addons within an engine. */
export const TFJS_ADDON = 'lib/napi-v8/tfjs_binding.node';
export const SESSION_ADDON = 'lib/napi-v8/session_addon.node';

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/u);
const relativePathSchema = z.string().refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), {
  error: 'expected a path within the engine',
});

export const engineManifestSchema = z.strictObject({
  format: z.literal(ENGINE_FORMAT),
  id: z.string().min(1),
  flavour: z.enum(ENGINE_FLAVOURS),
  /** Of TensorFlow, such as 2.21.0. */
  tensorflowVersion: z.string(),
  /** `<process.platform>-<process.arch>`. */
  platform: z.string(),
  /** Version of Node-API the addons are built for. */
  napiVersion: z.int(),
  /** Sources of the libraries: wheels, each with the SHA-256 of its RECORD. */
  wheels: z.array(z.strictObject({ file: z.string(), recordSha256: sha256Schema })).min(1),
  /** SHA-256 over sources, headers and flags of the addons. */
  recipe: sha256Schema,
  /** First line of `g++ --version`. */
  compiler: z.string(),
  /** ISO 8601, UTC. */
  installedAt: z.iso.datetime(),
  /** Regular files, manifest excluded; symbolic links are not listed. */
  files: z.array(z.strictObject({ path: relativePathSchema, bytes: z.int().nonnegative(), sha256: sha256Schema })),
});

export type EngineManifest = z.output<typeof engineManifestSchema>;

export interface InstalledEngine {
  readonly id: string;
  readonly folder: string;
  readonly flavour: EngineFlavour;
  readonly tensorflowVersion: string;
  /** Of tfjs-node's addon, absolute. */
  readonly addonPath: string;
  /** Of our own addon, absolute. */
  readonly sessionAddonPath: string;
  readonly manifest: EngineManifest;
}

/** A folder of an id: an engine, or not usable, with the reasons. */
export interface EngineFolder {
  readonly id: string;
  readonly folder: string;
  /** Undefined if no manifest can be read. */
  readonly engine: InstalledEngine | undefined;
  /** Sentences; empty for a sound engine. */
  readonly problems: readonly string[];
  /** Whether it is made for another version of exmix, not damaged. */
  readonly isOutdated: boolean;
}

export type EngineCheck = 'sizes' | 'hashes';

export function enginesFolder(home: string): string {
  return join(home, 'engines');
}

/**
 * Every engine folder, sorted by id. `sizes` checks the size of every file, `hashes` reads every byte.
 * @throws PATH_UNUSABLE if the home cannot be read, ABORTED
 */
export async function listInstalledEngines(
  home: string,
  check: EngineCheck = 'sizes',
  signal?: AbortSignal,
): Promise<EngineFolder[]> {
  const parent = enginesFolder(home);
  let names: string[];
  try {
    names = (await readdir(parent, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .map((entry) => entry.name)
      .sort();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw toStorageError(error, 'list', parent);
  }
  const folders: EngineFolder[] = [];
  for (const name of names) folders.push(await inspectEngine(home, name, check, signal));
  return folders;
}

/** One engine folder; see listInstalledEngines. @throws PATH_UNUSABLE, ABORTED */
export async function inspectEngine(
  home: string,
  id: string,
  check: EngineCheck = 'sizes',
  signal?: AbortSignal,
): Promise<EngineFolder> {
  const folder = join(enginesFolder(home), id);
  const read = await readManifest(folder);
  if ('problem' in read)
    return { id, folder, engine: undefined, problems: [read.problem], isOutdated: read.isOutdated };
  const problems: string[] = [];
  if (read.id !== id) problems.push(`${ENGINE_MANIFEST} is that of ${read.id}`);
  const platform = `${process.platform}-${process.arch}`;
  if (read.platform !== platform) problems.push(`made for ${read.platform}, this is ${platform}`);
  for (const addon of [TFJS_ADDON, SESSION_ADDON])
    if (!read.files.some(({ path }) => path === addon)) problems.push(`${ENGINE_MANIFEST} lists no ${addon}`);
  for (const file of read.files) problems.push(...(await problemsOfFile(folder, file, check, signal)));
  const engine = {
    id,
    folder,
    flavour: read.flavour,
    tensorflowVersion: read.tensorflowVersion,
    addonPath: join(folder, TFJS_ADDON),
    sessionAddonPath: join(folder, SESSION_ADDON),
    manifest: read,
  };
  return { id, folder, engine, problems, isOutdated: false };
}

export interface EngineSearch {
  /** The engine to use: the newest TensorFlow, then cuda before cpu, then the latest installation. */
  readonly found: InstalledEngine | undefined;
  /** Damaged or outdated folders that are not used; the caller logs them. */
  readonly damaged: readonly EngineFolder[];
}

/** The engine to use, and the folders that are not usable. @throws PATH_UNUSABLE */
export async function searchInstalledEngine(home: string): Promise<EngineSearch> {
  const folders = await listInstalledEngines(home);
  return { found: preferredEngine(folders), damaged: folders.filter(({ problems }) => problems.length > 0) };
}

/** Selects the engine to use among the sound ones. */
export function preferredEngine(folders: readonly EngineFolder[]): InstalledEngine | undefined {
  const sound = folders.filter(({ problems }) => problems.length === 0).flatMap(({ engine }) => engine ?? []);
  return sound.sort(byPreference)[0];
}

/**
 * The engine to use; undefined if none is installed.
 * @throws ENGINE_UNAVAILABLE with the reasons if all installed engines are damaged; PATH_UNUSABLE
 */
export async function findInstalledEngine(home: string): Promise<InstalledEngine | undefined> {
  const { found, damaged } = await searchInstalledEngine(home);
  if (found !== undefined || damaged.length === 0) return found;
  const all = damaged.map(describeDamage).join('; ');
  throw new TrainerError(
    'ENGINE_UNAVAILABLE',
    `no sound native engine in ${enginesFolder(home)}: ${all}; remove it (exmix engine remove ID) and install it again`,
  );
}

/** `ID: problem, problem and 3 more`. */
export function describeDamage({ id, problems }: EngineFolder): string {
  return `${id}: ${listNames(problems, { most: 2 })}`;
}

interface NoManifest {
  /** Why there is no usable manifest. */
  readonly problem: string;
  readonly isOutdated: boolean;
}

async function readManifest(folder: string): Promise<EngineManifest | NoManifest> {
  const damaged = (problem: string): NoManifest => ({ problem, isOutdated: false });
  let text: string;
  try {
    text = (await readSmallFile(join(folder, ENGINE_MANIFEST))).toString('utf8');
  } catch (error) {
    const code = systemCode(error);
    return damaged(`${ENGINE_MANIFEST} ${code === 'ENOENT' ? 'is missing' : `cannot be read (${code ?? '?'})`}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return damaged(`${ENGINE_MANIFEST} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { data } = z.object({ format: z.number() }).safeParse(value);
  if (data !== undefined && data.format !== ENGINE_FORMAT)
    return {
      problem: `of format ${data.format}, this version of exmix uses ${ENGINE_FORMAT}: exmix engine install`,
      isOutdated: true,
    };
  const parsed = engineManifestSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return damaged(`${ENGINE_MANIFEST} is not a manifest: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? '?'}`);
}

async function problemsOfFile(
  folder: string,
  { path, bytes, sha256 }: EngineManifest['files'][number],
  check: EngineCheck,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const full = join(folder, path);
  try {
    const facts = await stat(full);
    if (!facts.isFile()) return [`${path} is not a file`];
    if (facts.size !== bytes) return [`${path}: expected ${bytes} B, got ${facts.size} B`];
  } catch (error) {
    const code = systemCode(error);
    return [code === 'ENOENT' ? `${path} is missing` : `${path} cannot be read (${code ?? String(error)})`];
  }
  if (check === 'sizes') return [];
  return (await hashFile(full, signal)).sha256 === sha256 ? [] : [`${path} has another SHA-256`];
}

function byPreference(a: InstalledEngine, b: InstalledEngine): number {
  return (
    b.tensorflowVersion.localeCompare(a.tensorflowVersion, 'en', { numeric: true }) ||
    Number(b.flavour === 'cuda') - Number(a.flavour === 'cuda') ||
    b.manifest.installedAt.localeCompare(a.manifest.installedAt)
  );
}
