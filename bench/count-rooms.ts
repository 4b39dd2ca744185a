/**
 * Counts the files and folders of a room, the imports between them, circles among folders, and lines of product code, type imports included:
 * `npx depcruise --config .dependency-cruiser.cjs --output-type json coordinator | npx tsx bench/count-rooms.ts coordinator`
 */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';

interface Cruise {
  readonly modules: readonly {
    readonly source: string;
    readonly dependencies: readonly { readonly resolved: string }[];
  }[];
}

const [room = 'coordinator'] = process.argv.slice(2);
const isProduct = (path: string): boolean => path.startsWith(`${room}/`) && !/\.(?:test|fixture|d)\.ts$/u.test(path);
const { modules } = JSON.parse(await text(process.stdin)) as Cruise;
const product = modules.filter(({ source }) => isProduct(source));
const imports = product.flatMap(({ source, dependencies }) =>
  dependencies.flatMap(({ resolved }) => (isProduct(resolved) ? [{ from: source, to: resolved }] : [])),
);
const folders = new Set(product.map(({ source }) => dirname(source)));
const arrows = new Map<string, Set<string>>();
for (const { from, to } of imports)
  if (dirname(from) !== dirname(to))
    arrows.set(dirname(from), (arrows.get(dirname(from)) ?? new Set()).add(dirname(to)));

/** Folders that can be reached from a folder. */
function reach(folder: string, seen = new Set<string>()): ReadonlySet<string> {
  for (const next of arrows.get(folder) ?? [])
    if (!seen.has(next)) {
      seen.add(next);
      reach(next, seen);
    }
  return seen;
}

const lines = product.map(({ source }) => readFileSync(source, 'utf8').split('\n').length - 1);
const largest = [...folders].map((folder) => product.filter(({ source }) => dirname(source) === folder).length);
console.log({
  files: product.length,
  folders: folders.size,
  filesInTheLargestFolder: Math.max(...largest),
  imports: imports.length,
  arrowsBetweenFolders: [...arrows.values()].reduce((sum, to) => sum + to.size, 0),
  foldersInACircle: [...folders].filter((folder) => reach(folder).has(folder)).length,
  lines: lines.reduce((sum, n) => sum + n, 0),
});
