/** Reads the token of a run from a file or the environment. Never from the command line: every user of the host can read that. */
import { TrainerError } from '../shared/errors.ts';
import { readSmallFile } from '../shared/small-file.ts';

const MIN_CHARACTERS = 16;

/** @throws CONFIG_INVALID if it is missing or too short */
export async function readToken(file: string | undefined): Promise<string> {
  const token = await givenToken(file);
  if (token !== undefined) return token;
  throw new TrainerError(
    'CONFIG_INVALID',
    "expected the run's token in $EXMIX_TOKEN or --token-file; it is in coordinator.json of the run folder",
  );
}

/** @returns undefined if the user gives none @throws CONFIG_INVALID, PATH_UNUSABLE */
export async function givenToken(file: string | undefined): Promise<string | undefined> {
  let token = process.env['EXMIX_TOKEN'];
  if (file !== undefined) {
    try {
      token = (await readSmallFile(file)).toString('utf8').trim();
    } catch (error) {
      throw new TrainerError('PATH_UNUSABLE', `cannot read the token file ${file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  if (token === undefined || token === '') return undefined;
  if (token.length < MIN_CHARACTERS || !/^[\x21-\x7e]+$/u.test(token))
    throw new TrainerError(
      'CONFIG_INVALID',
      `expected a token of at least ${MIN_CHARACTERS} visible ASCII characters, got ${token.length}`,
    );
  return token;
}
