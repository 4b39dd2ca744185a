/** The folder of data that outlives a run and a checkout: prepared mixtures, installed engines. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** `$EXMIX_HOME`, or `~/.cache/exmix`. */
export function exmixHome(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  const given = environment['EXMIX_HOME'];
  return given === undefined || given === '' ? join(homedir(), '.cache', 'exmix') : resolve(given);
}
