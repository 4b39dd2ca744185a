/** The folder of data that outlives a run and a checkout: prepared mixtures, installed engines. */
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { systemCode } from './atomic-file.ts';
import { TrainerError } from './errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** `$EXMIX_HOME`, or `~/.cache/exmix`. @throws PATH_UNUSABLE if neither is known */
export function exmixHome(environment: Environment = process.env): string {
  const given = environment['EXMIX_HOME'];
  if (given !== undefined && given !== '') return resolve(given);
  const home = ownHome(environment);
  if (home !== undefined) return join(home, '.cache', 'exmix');
  throw new TrainerError(
    'PATH_UNUSABLE',
    `expected a home folder in $HOME, found ${JSON.stringify(environment['HOME'] ?? null)}; ${CURE}`,
  );
}

const CURE = 'set $EXMIX_HOME to a folder for prepared mixtures and engines that can be written';

/** Of $HOME, else of the user's account; undefined if it is no absolute path. */
function ownHome({ HOME: home }: Environment): string | undefined {
  try {
    const folder = home ?? homedir();
    return isAbsolute(folder) ? folder : undefined;
  } catch {
    return undefined; // the user has no account, as in a container
  }
}

/** What to do about a failure of the file system below exmix's home; undefined for any other failure. */
export function adviceOnHome(
  { code, message, cause }: TrainerError,
  environment: Environment = process.env,
): string | undefined {
  if (code !== 'PATH_UNUSABLE' || !['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENOENT'].includes(systemCode(cause) ?? ''))
    return undefined;
  try {
    return message.includes(exmixHome(environment)) ? CURE : undefined;
  } catch {
    return undefined; // the message says it already
  }
}
