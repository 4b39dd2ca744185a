/**
 * Compares exmix with reference numbers in folders of the form of golden/ (golden/README.md).
 *
 *   npm run golden -- DIR… [--engine native|wasm|cpu] [--verbose]
 *
 * Prints for each file its cases, the worst difference and the tolerance. Exit status 1 if a file is beyond its tolerance, or none was found.
 */
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { formatTable } from '../../cli/text-table.ts';
import { checkJsonFile, type FileReport } from './golden-report.ts';

const { values: flags, positionals: places } = parseArgs({
  allowPositionals: true,
  options: { engine: { type: 'string', default: 'auto' }, verbose: { type: 'boolean', default: false } },
});

async function* filesIn(place: string): AsyncGenerator<string> {
  if (!(await stat(place)).isDirectory()) {
    yield place;
    return;
  }
  for (const entry of (await readdir(place)).sort()) yield* filesIn(join(place, entry));
}

const reports: FileReport[] = [];
for (const place of places) {
  for await (const file of filesIn(place)) {
    if (!file.endsWith('.json')) continue;
    const report = await checkJsonFile(file, flags.engine);
    if (report !== undefined) reports.push(report);
  }
}
const isGood = (report: FileReport): boolean => report.failures.length === 0;
console.log(
  formatTable(
    ['file', 'cases', 'worst difference', 'tolerance', ''],
    reports.map((report) => [
      relative(process.cwd(), report.file),
      String(report.numCases),
      report.worst.toExponential(1),
      String(report.tolerance),
      isGood(report) ? 'ok' : 'FAILED',
    ]),
  ),
);
for (const report of reports) {
  for (const failure of flags.verbose ? report.failures : report.failures.slice(0, 3)) console.log(`${report.file}: ${failure}`);
}
if (reports.length === 0) console.log('no file of reference numbers was found');
process.exitCode = reports.length > 0 && reports.every(isGood) ? 0 : 1;
