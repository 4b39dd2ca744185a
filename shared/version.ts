/** The version of exmix, from package.json. */
import { readFileSync } from 'node:fs';
import { assertInvariant } from './errors.ts';
import { packageFile } from './package-files.ts';

export const VERSION = readVersion();

function readVersion(): string {
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version?: unknown };
  assertInvariant(typeof version === 'string', 'package.json has a version');
  return version;
}
