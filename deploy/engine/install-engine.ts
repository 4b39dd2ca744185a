/**
 * Installs a native engine: extracts libraries and headers from TensorFlow's wheel, builds the addons, tests them, and then renames the
 * folder to the id of the engine. If this process is killed, the next installation removes the partial folder.
 *
 * Definition: the id names everything that determines what the engine computes, so equal ids mean equal engines.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, link, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hashFile, syncFolder, systemCode, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { TrainerError } from '../../shared/errors.ts';
import {
  ENGINE_FORMAT,
  ENGINE_MANIFEST,
  enginesFolder,
  inspectEngine,
  listInstalledEngines,
  SESSION_ADDON,
  TFJS_ADDON,
  type EngineFlavour,
  type EngineManifest,
  type InstalledEngine,
} from '../../shared/installed-engine.ts';
import { dropPartialFolder, makePartialFolder, removeAbandoned } from '../../shared/partial-folders.ts';
import { addonRecipes, buildAddon, hashRecipes, NAPI_VERSION } from './build-addon.ts';
import type { DiskSpace } from './free-space.ts';
import { formatElapsed } from './format-bytes.ts';
import type { Host } from './host.ts';
import { obtainWheels, openWheels } from './obtain-wheels.ts';
import { findTools, type Tools } from './prerequisites.ts';
import { selfTest, type SelfTestResult } from './self-test.ts';
import { unpackWheels } from './unpack-wheels.ts';
import type { Wheel } from './wheel.ts';
import { checkHost, resolveFlavour } from './wheel-selection.ts';

/** Error codes of a file system that cannot make a hard link. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK', 'EXDEV']);

export interface InstallInit {
  readonly home: string;
  readonly flavour: EngineFlavour | 'auto';
  /** Version of TensorFlow. */
  readonly version: string;
  /** Paths of wheels; if empty, pip downloads them. */
  readonly wheels: readonly string[];
}

export interface InstallComponents extends DiskSpace {
  readonly host: Host;
  readonly environment: NodeJS.ProcessEnv;
  /** The command that runs `worker/engine/native/addon/probe-addon.ts`. */
  readonly probe: readonly string[];
  /** ISO 8601, UTC. */
  readonly now: () => string;
  /** Called with one line per finished step. */
  readonly onLine: (text: string) => void;
  /** Called with the current progress, which replaces the last one. */
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
}

export interface InstallOutcome {
  readonly engine: InstalledEngine;
  /** Undefined if the engine was installed before. */
  readonly selfTest: SelfTestResult | undefined;
}

type Files = EngineManifest['files'];
type WheelNames = EngineManifest['wheels'];

/** The libraries of an engine, and the wheels from which they come. */
interface Libraries {
  readonly files: Files;
  readonly wheels: WheelNames;
}

export interface EngineIdentity {
  readonly flavour: EngineFlavour;
  readonly version: string;
  readonly wheels: EngineManifest['wheels'];
  /** hashRecipes() */
  readonly recipe: string;
  readonly host: Host;
}

/** `cpu-2.21.0-3f29c0a1b2d4`: depends on the content of the wheels, but not on their order and file names. Pure. */
export function engineId({ flavour, version, wheels, recipe, host }: EngineIdentity): string {
  const records = wheels.map(({ recordSha256 }) => recordSha256).sort();
  const content = JSON.stringify([ENGINE_FORMAT, NAPI_VERSION, host.platform, host.arch, recipe, records]);
  return `${flavour}-${version}-${createHash('sha256').update(content).digest('hex').slice(0, 12)}`;
}

/**
 * @throws PREREQUISITE_MISSING, WHEEL_INVALID, ENGINE_UNAVAILABLE, ENGINE_INSTALL_FAILED, DISK_FULL, PATH_UNUSABLE, ABORTED; no engine is
 * installed then
 */
export async function installEngine(init: InstallInit, components: InstallComponents): Promise<InstallOutcome> {
  const { home, version } = init;
  const { host, onLine, signal } = components;
  checkHost(host);
  const parent = enginesFolder(home);
  try {
    await mkdir(parent, { recursive: true });
  } catch (error) {
    throw toStorageError(error, 'create', parent);
  }
  await removeAbandoned(parent);

  const given = await openWheels(init.wheels);
  try {
    const { flavour, reason } = resolveFlavour(init.flavour, host, given);
    onLine(`native engine: TensorFlow ${version}, flavour ${flavour} (${reason}), into ${parent}`);
    const recipe = await hashRecipes(addonRecipes());
    const known = given.length > 0 ? undefined : await findKnown(home, flavour, version, recipe);
    if (known?.recipe === recipe) return { engine: known.engine, selfTest: undefined };

    const needsPip = given.length === 0 && known === undefined;
    const tools = await findTools({ needsPip, environment: components.environment, signal });
    const partial = await makePartialFolder(parent, 'engine');
    try {
      const libraries =
        known === undefined
          ? await extractFromWheels(partial, { ...init, flavour, given, recipe, tools }, components)
          : await linkFromEngine(partial, known.engine, components);
      if ('engine' in libraries) return { engine: libraries.engine, selfTest: undefined };
      return await finish(partial, { home, flavour, version, recipe, libraries, tools }, components);
    } finally {
      await dropPartialFolder(partial);
    }
  } finally {
    for (const wheel of given) wheel.close();
  }
}

/** Finds a sound engine of that flavour and version. Prefers one with the same addons. */
async function findKnown(
  home: string,
  flavour: EngineFlavour,
  version: string,
  recipe: string,
): Promise<{ engine: InstalledEngine; recipe: string } | undefined> {
  const sound = (await listInstalledEngines(home)).filter(({ problems }) => problems.length === 0);
  const matching = sound
    .flatMap(({ engine }) => engine ?? [])
    .filter((engine) => engine.flavour === flavour && engine.tensorflowVersion === version);
  const engine = matching.find(({ manifest }) => manifest.recipe === recipe) ?? matching.at(-1);
  return engine && { engine, recipe: engine.manifest.recipe };
}

interface WheelWork extends InstallInit {
  readonly flavour: EngineFlavour;
  readonly given: readonly Wheel[];
  readonly recipe: string;
  readonly tools: Tools;
}

/** @returns the libraries, or the installed engine if the wheels give the same id */
async function extractFromWheels(
  partial: string,
  work: WheelWork,
  components: InstallComponents,
): Promise<Libraries | { engine: InstalledEngine }> {
  const wheels = await obtainWheels(partial, work, components);
  try {
    const names = wheels.map(({ path, recordSha256 }) => ({ file: path.split('/').at(-1)!, recordSha256 }));
    const id = engineId({ ...work, wheels: names, host: components.host });
    const installed = await inspectEngine(work.home, id);
    if (installed.engine !== undefined && installed.problems.length === 0) return { engine: installed.engine };
    return { files: await unpackWheels(wheels, partial, components), wheels: names };
  } finally {
    for (const wheel of wheels) if (!work.given.includes(wheel)) wheel.close();
    await rm(join(partial, 'download'), { recursive: true, force: true });
  }
}

/** Reuses the libraries of an engine with addons of another exmix: needs no download and, with hard links, no disk space. */
async function linkFromEngine(
  partial: string,
  { id, folder, manifest }: InstalledEngine,
  { onLine, onProgress, signal }: InstallComponents,
): Promise<Libraries> {
  onLine(`reusing the libraries of ${id}, whose addons are of another version of exmix`);
  const files = manifest.files.filter(({ path }) => path.startsWith('deps/'));
  for (const [index, { path, sha256 }] of files.entries()) {
    throwIfAborted(signal, 'the installation');
    onProgress(`checking ${index + 1}/${files.length}: ${path}`);
    if ((await hashFile(join(folder, path), signal)).sha256 !== sha256)
      throw new TrainerError(
        'ENGINE_INSTALL_FAILED',
        `${folder}/${path} has changed since it was installed (SHA-256); remove that engine (exmix engine remove ${id}) and install again`,
      );
    await linkOrCopy(join(folder, path), join(partial, path));
  }
  return { files, wheels: manifest.wheels };
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await mkdir(dirname(to), { recursive: true });
    try {
      await link(from, to);
    } catch (error) {
      if (!NO_HARD_LINKS.has(systemCode(error) ?? '')) throw error;
      await copyFile(from, to, constants.COPYFILE_FICLONE);
    }
  } catch (error) {
    throw toStorageError(error, 'link', to);
  }
}

interface FinishWork {
  readonly home: string;
  readonly flavour: EngineFlavour;
  readonly version: string;
  readonly recipe: string;
  readonly libraries: Libraries;
  readonly tools: Tools;
}

/** Builds the addons, tests them, writes the manifest and publishes the engine. */
async function finish(partial: string, work: FinishWork, components: InstallComponents): Promise<InstallOutcome> {
  const { home, flavour, version, recipe, libraries, tools } = work;
  const { environment, signal, onLine, onProgress, host } = components;
  const files = [...libraries.files];
  const startMs = performance.now();
  for (const addon of addonRecipes()) {
    onProgress(`building ${addon.output} with ${tools.compiler.command}`);
    await buildAddon({ recipe: addon, engineFolder: partial, compiler: tools.compiler.command, environment, signal });
    files.push({ path: addon.output, ...(await hashFile(join(partial, addon.output), signal)) });
  }
  onLine(`built the addons in ${formatElapsed(performance.now() - startMs)} (${tools.compiler.version})`);

  onProgress('self-test');
  const result = await selfTest({
    addonPath: join(partial, TFJS_ADDON),
    sessionAddonPath: join(partial, SESSION_ADDON),
    flavour,
    expectedVersion: version,
    probe: components.probe,
    environment,
    signal,
  });

  const id = engineId({ flavour, version, wheels: libraries.wheels, recipe, host });
  const manifest: EngineManifest = {
    format: ENGINE_FORMAT,
    id,
    flavour,
    tensorflowVersion: version,
    platform: `${host.platform}-${host.arch}`,
    napiVersion: NAPI_VERSION,
    wheels: [...libraries.wheels],
    recipe,
    compiler: tools.compiler.version,
    installedAt: components.now(),
    files: files.sort((a, b) => (a.path < b.path ? -1 : 1)),
  };
  await writeNewFile(join(partial, ENGINE_MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
  throwIfAborted(signal, 'the installation');
  await publish(partial, home, id);
  const { engine, problems } = await inspectEngine(home, id);
  if (engine === undefined || problems.length > 0)
    throw new TrainerError(
      'INTERNAL',
      `the engine ${id} is damaged right after its installation: ${problems.join('; ')}`,
    );
  return { engine, selfTest: result };
}

/**
 * Renames the folder to its id. If a concurrent installation has published a sound engine of this id, that one stays, because both are
 * equal. A damaged one is replaced.
 */
async function publish(partial: string, home: string, id: string): Promise<void> {
  const parent = enginesFolder(home);
  const target = join(parent, id);
  await syncFolder(partial);
  while (!(await tryRename(partial, target, ['ENOTEMPTY', 'EEXIST']))) {
    if ((await inspectEngine(home, id)).problems.length === 0) return;
    const aside = await makePartialFolder(parent, 'replaced');
    try {
      await tryRename(target, aside, ['ENOENT']);
    } finally {
      await dropPartialFolder(aside);
    }
  }
  await syncFolder(parent);
}

/** @returns false if it failed with one of the codes, because another process was faster @throws PATH_UNUSABLE for other failures */
async function tryRename(from: string, to: string, codes: readonly string[]): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (codes.includes(systemCode(error) ?? '')) return false;
    throw toStorageError(error, 'install', to);
  }
}
