// npm test: compiles product and tests once, then runs them with node's test runner.
//
//   node testing/run-tests.mjs [--native] [--list] [path or part of one …]
//
// Test files of a folder that stay inside their process share one: an entry imports them all. A file that starts processes or threads, or
// changes what belongs to the process, runs in its own. dist/test-times.txt has the seconds of each file of the last run;
// the tests that failed are printed again at its end, with their errors.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { currentBuild } from '../deploy/package/current-build.mjs';
import { ROOT } from '../deploy/package/source-key.mjs';
import { compileTests } from './compile-tests.mjs';
import { FAILURES } from './files-reporter.mjs';

/** In a test file: it starts processes or threads, changes the process, or has hooks for each test at its top. */
const NEEDS_A_PROCESS =
  /node:child_process|node:worker_threads|shared\/thread\/thread\.ts|exmix-process\.ts|process\.env\[[^\]]+\] =|delete process\.env|process\.(?:chdir|exitCode|on\(|once\(|stdout\.write =)|^(?:before|after)Each\(|own process:/mu;
const CONCURRENCY = 2;
/** Whole runs take longest: they begin first, so that no process ends alone. */
const FIRST = /^(?:e2e|examples|deploy)\//u;

const args = process.argv.slice(2);
const parts = args.filter((arg) => !arg.startsWith('--')).map((part) => part.replace(/^\.\//u, ''));
const isNative = args.includes('--native');

/** Native tests come by `--native` alone, the storm by its name, not by its folder's. */
function isAsked(file) {
  if (file.endsWith('.native.test.ts') !== isNative) return false;
  if (file.endsWith('/storm.test.ts')) return parts.some((part) => part.includes('storm'));
  return parts.length === 0 || parts.some((part) => file.includes(part));
}

await currentBuild();
const { folder, files } = await compileTests();
const alone = [];
const groups = new Map();
for (const file of files.filter((one) => one.endsWith('.test.ts') && isAsked(one))) {
  const compiled = join(folder, file.replace(/\.ts$/u, '.js'));
  if (isNative || NEEDS_A_PROCESS.test(await readFile(join(ROOT, file), 'utf8'))) alone.push({ file, compiled });
  else groups.set(dirname(file), [...(groups.get(dirname(file)) ?? []), compiled]);
}
const entries = [];
await mkdir(join(folder, 'shared-processes'), { recursive: true });
for (const [room, members] of groups) {
  const entry = join(folder, 'shared-processes', `${room.replaceAll('/', '--')}-${process.pid}.test.mjs`);
  await writeFile(entry, members.map((path) => `import '${relative(dirname(entry), path)}';\n`).join(''));
  entries.push(entry);
}
const isFirst = ({ file }) => FIRST.test(file);
const ordered = [
  ...alone.filter(isFirst).map(({ compiled }) => compiled),
  ...alone.filter((one) => !isFirst(one)).map(({ compiled }) => compiled),
  ...entries,
];
if (args.includes('--list')) {
  for (const { file } of alone) console.log(file);
  for (const [room, members] of groups) console.log(`${room}: ${members.length} files in one process`);
} else {
  const reporter = process.stdout.isTTY ? 'spec' : 'tap';
  const options = [
    ...['--enable-source-maps', '--test', '--test-force-exit', `--test-concurrency=${isNative ? 1 : CONCURRENCY}`],
    ...[`--test-reporter=${reporter}`, '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${join(ROOT, 'testing/files-reporter.mjs')}`, `--test-reporter-destination=stdout`],
  ];
  const { status } = spawnSync(process.execPath, [...options, ...ordered], { stdio: 'inherit', cwd: ROOT });
  if (existsSync(FAILURES)) console.error(await readFile(FAILURES, 'utf8'));
  process.exitCode = status ?? 1;
}
