// Compiles all modules, tests included, file by file into dist/tests-<key>: tests import single modules, so a bundle does not serve them.
// A module there takes itself for its source: import.meta has the source's address, so a test finds its data and its fixtures. Only
// shared/package-files.ts keeps its own: threads and child processes of compiled code run compiled code.
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as esbuild from 'esbuild';
import { keyOf, ROOT, sourceFiles } from '../deploy/package/source-key.mjs';

const ROOMS = [
  'api',
  'bench',
  'cli',
  'coordinator',
  'deploy',
  'e2e',
  'evaluation',
  'examples',
  'mixture',
  'shared',
  'worker',
];
const KEEPS_ITS_ADDRESS = 'shared/package-files.ts';
/** Compiled states that are kept in dist/. */
const NUM_KEPT = 3;

/** @returns {Promise<{ folder: string, files: readonly string[] }>} files: paths of the sources, relative to the root */
export async function compileTests() {
  const files = sourceFiles(ROOMS, (name) => /\.ts$/u.test(name) && !/\.d\.ts$/u.test(name));
  const folder = join(ROOT, 'dist', `tests-${keyOf([...files, 'testing/compile-tests.mjs', 'package-lock.json'])}`);
  if (!existsSync(folder)) await compileInto(folder, files);
  const now = new Date();
  await utimes(folder, now, now);
  await removeOld(dirname(folder));
  return { folder, files };
}

async function compileInto(folder, files) {
  const partial = `${folder}.partial-${process.pid}`;
  try {
    await Promise.all(files.map((file) => compileFile(file, partial)));
    await writeFile(join(partial, 'build.json'), '{}\n');
    await rename(partial, folder).catch((error) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error; // another process was faster
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function compileFile(file, folder) {
  const path = join(ROOT, file);
  const output = join(folder, file.replace(/\.ts$/u, '.js'));
  const address = { url: pathToFileURL(path).href, dirname: dirname(path), filename: path };
  const { code, map } = await esbuild.transform(await readFile(path, 'utf8'), {
    loader: 'ts',
    format: 'esm',
    target: 'node20.19',
    sourcemap: true,
    sourcefile: path,
    sourcesContent: false,
    define:
      file === KEEPS_ITS_ADDRESS
        ? {}
        : Object.fromEntries(
            Object.entries(address).map(([name, value]) => [`import.meta.${name}`, JSON.stringify(value)]),
          ),
  });
  const own = relative(dirname(file), 'api/index.js');
  // As esbuild prints them: double quotes, which the code that tests hold as text does not have.
  const linked = code
    .replace(/(\bfrom |\bimport |\bimport\()"(\.{1,2}\/[^"]*)\.ts"/gu, '$1"$2.js"')
    .replace(/\bfrom "exmix"/gu, `from "${own.startsWith('.') ? own : `./${own}`}"`);
  await mkdir(dirname(output), { recursive: true });
  await writeFile(output, `${linked}//# sourceMappingURL=${file.split('/').at(-1).replace(/\.ts$/u, '.js')}.map\n`);
  await writeFile(`${output}.map`, map);
}

async function removeOld(dist) {
  const known = [];
  for (const name of await readdir(dist)) {
    if (!name.startsWith('tests-')) continue;
    const { mtimeMs } = await stat(join(dist, name)).catch(() => ({ mtimeMs: 0 })); // removed by another process
    known.push({ name, mtimeMs });
  }
  known.sort((a, b) => b.mtimeMs - a.mtimeMs);
  for (const { name } of known.slice(NUM_KEPT)) await rm(join(dist, name), { recursive: true, force: true });
}
