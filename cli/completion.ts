/**
 * Completion of command lines: the candidates that `exmix --complete WORDS` prints for the script of a shell (commands/completion.ts).
 *
 * yargs' own completion does not wait for commands that are loaded when they are called.
 */
import yargs, { type Argv } from 'yargs';
import { ENGINE_NAMES } from '../worker/engine-choice/choose-engine.ts';
import { COMMANDS } from './command-list.ts';
import { presetNames } from './presets.ts';

/** Values of flags that have no list of choices in their declaration. */
const VALUES: Readonly<Record<string, () => readonly string[]>> = {
  preset: presetNames,
  engine: () => ENGINE_NAMES,
  mixture: () => ['demo', 'exmix'],
};

/** The parts of a parser that its types leave out. */
interface ParserState {
  getOptions(): {
    readonly key: object;
    readonly boolean: readonly string[];
    readonly array: readonly string[];
    readonly hiddenOptions: readonly string[];
    readonly choices: Readonly<Record<string, readonly string[]>>;
  };
  getInternalMethods(): {
    getCommandInstance(): {
      getCommandHandlers(): Readonly<Record<string, Handler>>;
      readonly defaultCommand?: Handler;
    };
  };
}

interface Handler {
  readonly builder: (parser: Argv) => unknown;
}

/** @param words after `exmix`, up to the cursor; the last one is completed */
export async function complete(words: readonly string[]): Promise<string[]> {
  const typed = words.filter((word) => word !== '='); // bash takes `--flag=value` for three words
  const last = words.at(-1) === '=' ? '' : (typed.at(-1) ?? '');
  const before = words.at(-1) === '=' ? typed : typed.slice(0, -1);
  let level = await openLevel((parser) => parser.command([...COMMANDS]));
  for (let i = 0; i < before.length; i++) {
    const word = before[i]!;
    const handler = Object.hasOwn(level.handlers, word) ? level.handlers[word] : undefined;
    if (handler !== undefined) level = await openLevel(handler.builder);
    else if (takesValue(level, word)) i++;
  }
  const assigned = /^(--[^=]+=)(.*)$/su.exec(last);
  const flag = assigned === null ? before.at(-1) : assigned[1]!.slice(0, -1);
  if (assigned !== null || (flag !== undefined && takesValue(level, flag))) {
    const [, prefix = '', start = last] = assigned ?? [];
    const name = flag!.slice(2);
    const values = level.options.choices[name] ?? VALUES[name]?.() ?? [];
    return values.filter((value) => value.startsWith(start)).map((value) => prefix + value);
  }
  const { key, array, hiddenOptions } = level.options;
  const flags = Object.keys(key)
    .filter((name) => name.length > 1 && !hiddenOptions.includes(name))
    .map((name) => `--${name}`)
    .filter((name) => !before.includes(name) || array.includes(name.slice(2)));
  const candidates = last.startsWith('-') ? [...flags, '--help'] : Object.keys(level.handlers);
  return [...new Set(candidates)].filter((candidate) => candidate.startsWith(last)).sort();
}

interface Level {
  readonly options: ReturnType<ParserState['getOptions']>;
  readonly handlers: Readonly<Record<string, Handler>>;
}

async function openLevel(build: Handler['builder']): Promise<Level> {
  const parser = yargs([]).help(false).version(false);
  await build(parser);
  const state = parser as unknown as ParserState;
  const commands = state.getInternalMethods().getCommandInstance();
  const handlers = { ...commands.getCommandHandlers() };
  await commands.defaultCommand?.builder(parser);
  return { options: state.getOptions(), handlers };
}

function takesValue({ options }: Level, word: string): boolean {
  const name = word.slice(2);
  return word.startsWith('--') && Object.hasOwn(options.key, name) && !options.boolean.includes(name);
}
