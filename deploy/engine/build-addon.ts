/**
 * Builds native addons from C++ sources with one call of the compiler each. node-gyp, make and Node's headers are not needed: the addons
 * use only Node-API, whose headers are in the npm package `node-api-headers` (docs/decisions/0007-one-compiler-call.md).
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { SESSION_ADDON, TFJS_ADDON } from '../../shared/installed-engine.ts';
import { packageFile, vendoredFile } from '../../shared/package-files.ts';
import { LIBRARIES } from './engine-layout.ts';
import { describeEnd, outputTail, runProgram } from './run-program.ts';

/** Node 12.22 and later versions have Node-API 8. */
export const NAPI_VERSION = 8;
const BUILD_DEADLINE_MS = 900_000;
// Without errno a square root is one instruction, of many lanes too; its value is the same.
const FLAGS = [
  '-std=c++17',
  '-O2',
  '-fno-math-errno',
  '-shared',
  '-fPIC',
  '-pthread',
  `-DNAPI_VERSION=${NAPI_VERSION}`,
];
/** Further sources of the session addon, in worker/engine/native/kernels. */
const KERNELS = [
  'adafactor',
  'adamw',
  'cached-attention',
  'cross-entropy',
  'gelu',
  'likeliest-tokens',
  'mask',
  'panel-product',
  'product',
  'register-kernels',
  'rms-norm',
  'row-threads',
  'softmax',
] as const;

export interface AddonRecipe {
  /** Path within the engine; two folders deep, because the RUNPATH is $ORIGIN/../../deps/lib. */
  readonly output: string;
  /** Absolute paths of the C++ files. */
  readonly sources: readonly string[];
}

/** The addons of an engine. @throws INTERNAL where the npm package with the sources is not installed */
export function addonRecipes(): AddonRecipe[] {
  const binding = vendoredFile('@tensorflow/tfjs-node-gpu', 'binding');
  const ours = (name: string) => packageFile(`worker/engine/native/${name}.cc`);
  const session = ['session/session-addon', ...KERNELS.map((name) => `kernels/${name}`)].map(ours);
  return [
    { output: TFJS_ADDON, sources: [join(binding, 'tfjs_backend.cc'), join(binding, 'tfjs_binding.cc')] },
    { output: SESSION_ADDON, sources: session },
  ];
}

/** Hash of everything that determines the addons, except TensorFlow and the compiler. @throws PATH_UNUSABLE */
export async function hashRecipes(recipes: readonly AddonRecipe[]): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([FLAGS, process.platform, process.arch]));
  for (const folder of new Set([
    napiHeaders(),
    ...recipes.flatMap(({ sources }) => sources.map((path) => dirname(path))),
  ]))
    for (const path of await sourceFiles(folder)) {
      hash.update(`\n${relative(folder, path)}\n`);
      hash.update(await readFile(path));
    }
  return hash.update(JSON.stringify(recipes.map(({ output }) => output))).digest('hex');
}

export interface BuildInit {
  readonly recipe: AddonRecipe;
  /** Contains deps/lib and deps/include; the addon is written to `recipe.output` in it. */
  readonly engineFolder: string;
  readonly compiler: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/** @throws ENGINE_INSTALL_FAILED with the last output of the compiler; DISK_FULL, ABORTED */
export async function buildAddon({ recipe, engineFolder, compiler, environment, signal }: BuildInit): Promise<void> {
  const output = join(engineFolder, recipe.output);
  try {
    await mkdir(dirname(output), { recursive: true });
  } catch (error) {
    throw toStorageError(error, 'create', dirname(output));
  }
  const includes = ['-I', join(engineFolder, 'deps/include'), '-I', napiHeaders()];
  const libraries = ['-L', join(engineFolder, 'deps/lib'), ...LIBRARIES.map((name) => `-l:${name}`)];
  const command = [compiler, ...FLAGS, ...includes, ...recipe.sources, '-o', output, ...libraries];
  const outcome = await runProgram({
    // Not through a shell: $ORIGIN is for the dynamic linker.
    command: [...command, '-Wl,-rpath,$ORIGIN/../../deps/lib'],
    // Keeps the compiler's temporary files in the engine's folder.
    environment: { ...environment, TMPDIR: dirname(output) },
    deadlineMs: BUILD_DEADLINE_MS,
    signal,
  });
  if (outcome.status === 0) return;
  const tail = outputTail(outcome);
  if (tail.includes('No space left on device'))
    throw new TrainerError('DISK_FULL', `no free space to build ${basename(output)} in ${dirname(output)}:\n${tail}`);
  throw new TrainerError(
    'ENGINE_INSTALL_FAILED',
    `${compiler} could not build ${basename(output)} (${describeEnd(outcome)}):\n${tail}`,
  );
}

function napiHeaders(): string {
  return vendoredFile('node-api-headers', 'include');
}

async function sourceFiles(folder: string): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter((name) => /\.(?:cc|h)$/u.test(name)).sort();
    return names.map((name) => join(folder, name));
  } catch (error) {
    throw toStorageError(error, 'read', folder);
  }
}
