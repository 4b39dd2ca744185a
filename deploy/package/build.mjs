// Compiles the product with esbuild: one bundle, cut into chunks that the entry points share, with all npm packages in it. What the
// packages need beside their modules is copied to vendor/. `node deploy/package/build.mjs` makes dist/package, which npm pack ships.
import { cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as esbuild from 'esbuild';
import { ENTRY_POINTS, ROOT } from './source-key.mjs';

/** Files of npm packages that are read, not imported: vendoredFile() in shared/package-files.ts. */
const VENDORED = [
  ['@tensorflow/tfjs-backend-wasm', 'dist', /\.wasm$/u],
  ['@tensorflow/tfjs-node-gpu', 'binding', /\.(?:cc|h)$/u],
  ['node-api-headers', 'include', /\.h$/u],
  ['jiti', '.', /^(?:lib\/jiti\.cjs|dist\/(?:jiti|babel)\.cjs|package\.json)$/u],
];
/** Builds that are kept in dist/. */
const NUM_KEPT = 8;

const require = createRequire(import.meta.url);

/** Makes a build in `folder`, whole or not at all. @returns {Promise<void>} */
export async function makeBuild(folder) {
  const partial = `${folder}.partial-${process.pid}`;
  await mkdir(partial, { recursive: true });
  try {
    const { metafile } = await esbuild.build(bundleOptions(partial));
    refuseNamelessImports(metafile);
    const packages = await bundledPackages(metafile);
    await copyVendored(partial);
    await writeFile(join(partial, 'NOTICES.md'), await notices(packages));
    const record = { packages: packages.map(({ name, version }) => `${name}@${version}`) };
    await writeFile(join(partial, 'build.json'), `${JSON.stringify(record, null, 2)}\n`);
    await rename(partial, folder).catch((error) => {
      // Another process was faster; its build is of the same sources.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  await removeOld(dirname(folder));
}

/** @returns {esbuild.BuildOptions} */
function bundleOptions(outdir) {
  return {
    absWorkingDir: ROOT,
    entryPoints: ENTRY_POINTS,
    outbase: '.',
    outdir,
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    sourcesContent: false,
    metafile: true,
    logLevel: 'warning',
    // What CommonJS packages expect to find.
    define: { __dirname: 'import.meta.dirname' },
    banner: {
      js: "import { createRequire as createRequireOfBuild } from 'node:module'; const require = createRequireOfBuild(import.meta.url);",
    },
    external: ['tsx'],
    plugins: [withoutMapsOfPackages],
  };
}

/** Lines of npm packages are of no use in a stack trace, and node reads every map when a module is loaded. */
const withoutMapsOfPackages = {
  name: 'without-maps-of-packages',
  setup(build) {
    build.onLoad({ filter: /[/]node_modules[/].*[.][cm]?js$/ }, async ({ path }) => ({
      contents: `${await readFile(path, 'utf8')}\n//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIiJdLCJtYXBwaW5ncyI6IkEifQ==`,
      loader: 'js',
    }));
  },
};

/** `import()` of a CommonJS package gives its names in node but not in a bundle: a module of ours must import it by name. */
function refuseNamelessImports({ inputs, outputs }) {
  for (const { entryPoint } of Object.values(outputs))
    if (entryPoint?.includes('node_modules/') && inputs[entryPoint].format === 'cjs')
      throw new Error(`import() of ${entryPoint}, which is CommonJS: import its names in a module, and import() that`);
}

/** The npm packages that are compiled in, by name. */
async function bundledPackages(metafile) {
  const used = new Set(
    Object.values(metafile.outputs).flatMap(({ inputs }) =>
      Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? packageFolders(path) : [])),
    ),
  );
  for (const [name] of VENDORED) used.add(relative(ROOT, dirname(require.resolve(`${name}/package.json`))));
  const packages = [];
  for (const folder of used) {
    const { name, version, license } = JSON.parse(await readFile(join(ROOT, folder, 'package.json'), 'utf8'));
    packages.push({ folder, name, version, license });
  }
  return packages.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** node_modules/a/node_modules/@b/c/dist/d.js → [node_modules/a/node_modules/@b/c] */
function packageFolders(path) {
  const found = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/u.exec(path)?.[0];
  return found === undefined ? [] : [found];
}

async function copyVendored(build) {
  for (const [name, folder, pattern] of VENDORED) {
    const from = join(dirname(require.resolve(`${name}/package.json`)), folder);
    for (const file of await readdir(from, { recursive: true })) {
      if (!pattern.test(file) || !(await stat(join(from, file))).isFile()) continue;
      const to = join(build, 'vendor', name, folder, file);
      await mkdir(dirname(to), { recursive: true });
      await cp(join(from, file), to);
    }
  }
}

/** The licences of what is compiled in and copied. */
async function notices(packages) {
  const parts = ['# Notices\n\nexmix contains these npm packages, whole or in part, under their licences.\n'];
  for (const { folder, name, version, license } of packages) {
    const files = (await readdir(join(ROOT, folder))).filter((file) => /^(?:licen[cs]e|copying|notice)/iu.test(file));
    const texts = await Promise.all(files.map((file) => readFile(join(ROOT, folder, file), 'utf8')));
    parts.push(`## ${name} ${version} (${license})\n`, ...texts.map((text) => `\`\`\`\n${text.trim()}\n\`\`\`\n`));
  }
  return parts.join('\n');
}

/** Removes all but the builds that were used last. */
async function removeOld(dist) {
  const builds = [];
  for (const name of await readdir(dist)) {
    const { mtimeMs } = await stat(join(dist, name)).catch(() => ({ mtimeMs: 0 })); // removed by another process
    if (/^[0-9a-f]{12}(?:\.partial-\d+)?$/u.test(name)) builds.push({ name, mtimeMs });
  }
  builds.sort((a, b) => b.mtimeMs - a.mtimeMs);
  for (const { name } of builds.slice(NUM_KEPT)) await rm(join(dist, name), { recursive: true, force: true });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const folder = join(ROOT, 'dist', 'package');
  await rm(folder, { recursive: true, force: true });
  await makeBuild(folder);
}
