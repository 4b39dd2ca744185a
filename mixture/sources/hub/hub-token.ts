/** The token of a hub, where all of Hugging Face's tools look for it. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** `$HF_TOKEN`, else the file `$HF_TOKEN_PATH`, else `$HF_HOME/token`, else `~/.cache/huggingface/token`; undefined where none is there. */
export function readHubToken(environment: Environment): string | undefined {
  const given = environment['HF_TOKEN']?.trim();
  if (given !== undefined && given !== '') return given;
  const home = environment['HF_HOME'] ?? join(environment['HOME'] ?? homedir(), '.cache', 'huggingface');
  try {
    const token = readFileSync(environment['HF_TOKEN_PATH'] ?? join(home, 'token'), 'utf8').trim();
    return token === '' ? undefined : token;
  } catch {
    return undefined; // public sets need none
  }
}
