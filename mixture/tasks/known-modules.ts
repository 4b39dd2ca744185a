/**
 * The task modules that this machine may load without being asked: those of mixtures that were prepared here. A file for each, under
 * exmix's home, written when a mixture is prepared that its user named himself.
 *
 * A module is known by its bytes and its path: it may import files beside it, and a stranger may bring the same module beside other files.
 * A module that imports nothing but exmix and parts of Node is known by its bytes alone.
 */
import { createHash } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import { readSmallFileSync } from '../../shared/small-file.ts';

/** Largest task module, bytes. */
const MAX_MODULE_BYTES = 4 * 1024 * 1024;
/** An import of exmix itself or of a part of Node that loads no other file as code. */
const HARMLESS_IMPORT = /^import\b[^'"`;]*\bfrom\s*(?<quote>['"])(?:exmix|node:(?!module\b|vm\b)[\w/]+)\k<quote>/gmu;
/** Any other way to load a file. */
const LOADS = /\b(?:import|require)\b|\bexport\b[^;]*\bfrom\b|\\u/u;

/** The file of a task module, as it was read once: these bytes are judged, and these bytes are run. */
export interface ModuleFile {
  /** Absolute. */
  readonly path: string;
  readonly source: string;
  /** SHA-256 of the file. */
  readonly sha256: string;
}

/** @throws PATH_UNUSABLE */
export function readModuleFile(path: string): ModuleFile {
  try {
    const bytes = readSmallFileSync(path, MAX_MODULE_BYTES);
    return { path, source: bytes.toString('utf8'), sha256: createHash('sha256').update(bytes).digest('hex') };
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
}

/** Whether a mixture with this module was prepared on this machine. */
export function isKnownModule(module: ModuleFile, home = exmixHome()): boolean {
  return existsSync(recordOf(module, home));
}

/** Makes modules known: a later mixture, named by a checkpoint or run folder, may load them. @throws PATH_UNUSABLE, DISK_FULL */
export async function rememberModules(modules: readonly ModuleFile[], home = exmixHome()): Promise<void> {
  for (const module of modules.filter((each) => !isKnownModule(each, home))) {
    const record = recordOf(module, home);
    const { path, sha256 } = module;
    await mkdir(dirname(record), { recursive: true }).catch((error: unknown) => {
      throw toStorageError(error, 'make', dirname(record));
    });
    await replaceFile(record, `${JSON.stringify({ path, sha256 }, undefined, 2)}\n`);
  }
}

function recordOf(module: ModuleFile, home: string): string {
  const identity = standsAlone(module.source) ? module.sha256 : `${module.sha256} ${realpathSync(module.path)}`;
  return join(home, 'modules', `${createHash('sha256').update(identity).digest('hex')}.json`);
}

function standsAlone(source: string): boolean {
  return !LOADS.test(source.replaceAll(HARMLESS_IMPORT, ''));
}
