/**
 * Where exmix's own files are. Definitions: the root is the folder with package.json and the data files. A build is a folder of compiled
 * modules with a build.json (deploy/package). Code runs from the TypeScript sources or from one build; threads and child processes
 * run from the same.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

interface Place {
  readonly root: string;
  /** Folder of the build that this module was compiled into; null: this is the source. */
  readonly build: string | null;
}

const { root, build } = locate(import.meta.dirname);

function locate(start: string): Place {
  let compiled: string | null = null;
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'build.json'))) compiled ??= folder;
    if (existsSync(join(folder, 'package.json')) || folder === dirname(folder))
      return { root: folder, build: compiled };
  }
}

/** @param path relative to the root */
export function packageFile(path: string): string {
  return join(root, path);
}

/**
 * A file or folder of an npm package that is not a module: C++ sources, headers, WebAssembly. A build has copies in `vendor/`; the
 * sources, and the compiled tests, take them from node_modules.
 * @param path within the npm package
 */
export function vendoredFile(npmPackage: string, path: string): string {
  const copy = build === null ? undefined : join(build, 'vendor', npmPackage, path);
  if (copy !== undefined && existsSync(copy)) return copy;
  return join(dirname(createRequire(import.meta.url).resolve(`${npmPackage}/package.json`)), path);
}

/** A module that a thread or a child process starts with. */
export interface EntryPoint {
  readonly file: string;
  /** Options of node that the file needs. */
  readonly execArgv: readonly string[];
}

/** @param module path of a TypeScript module relative to the root; one of the entry points of deploy/package/build.mjs */
export function entryPoint(module: string): EntryPoint {
  // Without a build: only tests and measurements under tsx come here. A bare 'tsx' would be looked for from the working directory.
  if (build === null) return { file: join(root, module), execArgv: ['--import', import.meta.resolve('tsx')] };
  return { file: join(build, module.replace(/\.ts$/u, '.js')), execArgv: ['--enable-source-maps'] };
}

/** Node then does not open its inspector on SIGUSR1, not even before the entry point runs; not every version has it. */
const NO_INSPECTOR = ['--disable-sigusr1'].filter((flag) => process.allowedNodeEnvironmentFlags.has(flag));

/** The command that runs an entry point in a child process. */
export function nodeCommand(module: string): [string, ...string[]] {
  const { file, execArgv } = entryPoint(module);
  return [process.execPath, ...NO_INSPECTOR, ...execArgv, file];
}

/** The command line program. */
export const EXMIX_ENTRY = 'cli/exmix.ts';
