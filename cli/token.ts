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
  let text = process.env['EXMIX_TOKEN'];
  if (file !== undefined) {
    try {
      text = (await readSmallFile(file)).toString('utf8');
    } catch (error) {
      throw new TrainerError('PATH_UNUSABLE', `cannot read the token file ${file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  const origin = file === undefined ? '$EXMIX_TOKEN' : `the token file ${file}`;
  if (text === undefined || (text === '' && file === undefined)) return undefined;
  return checkToken(text.trim(), origin);
}

/** @param origin where the token comes from @throws CONFIG_INVALID, without any character that may be part of a secret */
function checkToken(token: string, origin: string): string {
  const expected = `${origin}: expected a token of at least ${MIN_CHARACTERS} visible ASCII characters`;
  const characters = Array.from(token);
  const at = characters.findIndex((character) => !/^[\x21-\x7e]$/u.test(character));
  if (at !== -1) {
    const codePoint = characters[at]!.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
    throw new TrainerError('CONFIG_INVALID', `${expected}, found U+${codePoint} as character ${at + 1}`);
  }
  if (characters.length < MIN_CHARACTERS) throw new TrainerError('CONFIG_INVALID', `${expected}, got ${token.length}`);
  return token;
}
