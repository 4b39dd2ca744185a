/**
 * Installs a native engine: libraries and headers out of TensorFlow's wheel, the addons built against them, tried, and only then put
 * under its id, in one rename. All work is in a folder that the next installation removes if this process is killed.
 */
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
import type { DiskRoom } from './disk-room.ts';
import { engineId } from './engine-id.ts';
import { formatElapsed } from './format-bytes.ts';
import type { Host } from './host.ts';
import { obtainWheels, openWheels } from './obtain-wheels.ts';
import { findTools, type Tools } from './prerequisites.ts';
import { selfTest, type SelfTestResult } from './self-test.ts';
import { unpackWheels } from './unpack-wheels.ts';
import type { Wheel } from './wheel.ts';
import { checkHost, resolveFlavour } from './wheel-selection.ts';

/** What a file system without hard links answers. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK', 'EXDEV']);

export interface InstallInit {
  readonly home: string;
  readonly flavour: EngineFlavour | 'auto';
  /** Of TensorFlow. */
  readonly version: string;
  /** Paths of wheels; where there are none, pip gets them. */
  readonly wheels: readonly string[];
}

export interface InstallComponents extends DiskRoom {
  readonly host: Host;
  readonly environment: NodeJS.ProcessEnv;
  /** The command that runs `worker/engine/native/addon/probe-addon.ts`. */
  readonly probe: readonly string[];
  /** ISO 8601, UTC. */
  readonly now: () => string;
  /** What is done now, a line each. */
  readonly onLine: (text: string) => void;
  /** How far it is: replaces what it said before. */
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
}

export interface InstallOutcome {
  readonly engine: InstalledEngine;
  /** Undefined where the engine was there before. */
  readonly selfTest: SelfTestResult | undefined;
}

type Files = EngineManifest['files'];
type WheelNames = EngineManifest['wheels'];

/** What an engine is made from: a folder with its libraries, and what they are. */
interface Libraries {
  readonly files: Files;
  readonly wheels: WheelNames;
}

/**
 * @throws PREREQUISITE_MISSING, WHEEL_INVALID, ENGINE_UNAVAILABLE, ENGINE_INSTALL_FAILED, DISK_FULL, PATH_UNUSABLE, ABORTED;
 * nothing is installed then
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
          ? await takeFromWheels(partial, { ...init, flavour, given, recipe, tools }, components)
          : await takeFromEngine(partial, known.engine, components);
      if ('engine' in libraries) return { engine: libraries.engine, selfTest: undefined };
      return await finish(partial, { home, flavour, version, recipe, libraries, tools }, components);
    } finally {
      await dropPartialFolder(partial);
    }
  } finally {
    for (const wheel of given) wheel.close();
  }
}

/** A sound engine of that flavour and version, the one with the same addons first. */
async function findKnown(
  home: string,
  flavour: EngineFlavour,
  version: string,
  recipe: string,
): Promise<{ engine: InstalledEngine; recipe: string } | undefined> {
  const sound = (await listInstalledEngines(home)).filter(({ problems }) => problems.length === 0);
  const fitting = sound
    .flatMap(({ engine }) => engine ?? [])
    .filter((engine) => engine.flavour === flavour && engine.tensorflowVersion === version);
  const engine = fitting.find(({ manifest }) => manifest.recipe === recipe) ?? fitting.at(-1);
  return engine && { engine, recipe: engine.manifest.recipe };
}

interface WheelWork extends InstallInit {
  readonly flavour: EngineFlavour;
  readonly given: readonly Wheel[];
  readonly recipe: string;
  readonly tools: Tools;
}

/** @returns the libraries, or the engine where these wheels make one that is there already */
async function takeFromWheels(
  partial: string,
  work: WheelWork,
  components: InstallComponents,
): Promise<Libraries | { engine: InstalledEngine }> {
  const wheels = await obtainWheels(partial, work, components);
  try {
    const names = wheels.map(({ path, recordSha256 }) => ({ file: path.split('/').at(-1)!, recordSha256 }));
    const id = engineId({ ...work, wheels: names, host: components.host });
    const there = await inspectEngine(work.home, id);
    if (there.engine !== undefined && there.problems.length === 0) return { engine: there.engine };
    return { files: await unpackWheels(wheels, partial, components), wheels: names };
  } finally {
    for (const wheel of wheels) if (!work.given.includes(wheel)) wheel.close();
    await rm(join(partial, 'download'), { recursive: true, force: true });
  }
}

/** The libraries of an engine whose addons are of another exmix: no download, and no room where the file system has hard links. */
async function takeFromEngine(
  partial: string,
  { id, folder, manifest }: InstalledEngine,
  { onLine, onProgress, signal }: InstallComponents,
): Promise<Libraries> {
  onLine(`taking the libraries of ${id}, whose addons are of another version of exmix`);
  const files = manifest.files.filter(({ path }) => path.startsWith('deps/'));
  for (const [index, { path, sha256 }] of files.entries()) {
    throwIfAborted(signal, 'the installation');
    onProgress(`checking ${index + 1}/${files.length}: ${path}`);
    if ((await hashFile(join(folder, path), signal)).sha256 !== sha256)
      throw new TrainerError(
        'ENGINE_INSTALL_FAILED',
        `${folder}/${path} has another SHA-256 than when it was installed; remove that engine (exmix engine remove ${id}) and install again`,
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

/** Builds, tries, describes and publishes. */
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
      `the engine ${id} is not sound right after its installation: ${problems.join('; ')}`,
    );
  return { engine, selfTest: result };
}

/**
 * Puts the folder under its id. Where a sound engine of that id lies already, from an installation at the same time, that one stays:
 * they are equal. A damaged one makes way.
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

/** @returns false where it failed with one of the codes: somebody else was faster @throws PATH_UNUSABLE for every other */
async function tryRename(from: string, to: string, codes: readonly string[]): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (codes.includes(systemCode(error) ?? '')) return false;
    throw toStorageError(error, 'install', to);
  }
}
