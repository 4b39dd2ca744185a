/** Commands that a person can paste into a shell, with exmix as this process was called. */
import { basename, relative } from 'node:path';

/** The facts that tell how exmix was called. */
export interface Call {
  /** `process.argv[1]`: the script. */
  readonly script: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** `exmix train --resume '/my runs/a'` @param words without `exmix` */
export function shellCommand(words: readonly string[]): string {
  return commandOf({ script: process.argv[1] ?? 'exmix', cwd: process.cwd(), env: process.env }, words);
}

/** Pure. */
export function commandOf(call: Call, words: readonly string[]): string {
  return [program(call), ...words.map(quoteWord)].join(' ');
}

/** npm sets `npm_command`: `exec` for npx, `run-script` for a script of package.json, whose folder has exmix for npx. */
function program({ script, cwd, env }: Call): string {
  const { npm_command: npmCommand } = env;
  if (npmCommand === 'exec' || npmCommand === 'run-script') return 'npx exmix';
  if (basename(script) === 'exmix') return 'exmix';
  const fromHere = relative(cwd, script);
  return `node ${quoteWord(fromHere.startsWith('..') ? script : fromHere)}`;
}

/** A word as POSIX shells read it. */
export function quoteWord(word: string): string {
  return /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
