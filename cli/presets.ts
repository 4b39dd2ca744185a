/** Finds the run presets of exmix: deploy/presets/<name>.yaml. */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TrainerError } from '../shared/errors.ts';
import { nearestHint } from '../shared/nearest-names.ts';
import { packageFile } from '../shared/package-files.ts';

const FOLDER = packageFile('deploy/presets');

export function presetNames(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => basename(file, '.yaml'))
    .sort();
}

/** @returns the preset's file @throws NAME_UNKNOWN with the nearest names */
export function presetFile(name: string): string {
  const known = presetNames();
  if (known.includes(name)) return join(FOLDER, `${name}.yaml`);
  const hint = nearestHint(name, known, `known: ${known.join(', ')}`);
  throw new TrainerError('NAME_UNKNOWN', `no preset is called ${JSON.stringify(name)}; ${hint}`);
}
