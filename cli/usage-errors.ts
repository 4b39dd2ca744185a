/**
 * What is wrong with a command line, in sentences for a person. Pure. yargs reports the first problem in words of its own, and accepts some
 * mistakes in silence: a flag without its value, a number that is none, a flag that is given twice.
 */
import { TrainerError } from '../shared/errors.ts';
import { nearestHint, nearestNames } from '../shared/nearest-names.ts';

/** The command line, and what the command that it calls takes. */
export interface Usage {
  /** The words as they were typed, without `exmix`. */
  readonly argv: readonly string[];
  /** The command, as yargs writes it: `exmix mixture`, `set <run> <settings..>`. */
  readonly path: readonly string[];
  /** Its subcommands, in the same form. */
  readonly subcommands: readonly string[];
  readonly flags: {
    /** Without dashes. */
    readonly names: readonly string[];
    readonly numbers: readonly string[];
    readonly strings: readonly string[];
    readonly booleans: readonly string[];
    /** Those that may be repeated. */
    readonly lists: readonly string[];
  };
}

/** @param message of yargs @returns NAME_UNKNOWN for a command, CONFIG_INVALID for the rest */
export function explainUsage(message: string, usage: Usage): TrainerError {
  const { argv, path } = usage;
  const unknown = /^Unknown arguments?: (.+)$/su.exec(message)?.[1];
  if (unknown !== undefined) return explainUnknown(unknown.split(', '), usage);
  const got = /^Not enough non-option arguments: got (\d+)/u.exec(message)?.[1];
  if (got !== undefined) {
    const missing = [...path.join(' ').matchAll(/<[^>]+>/gu)].slice(Number(got)).map(([name]) => name);
    return invalid(`${commandName(path)}: expected ${missing.join(' ')}; ${helpOf(path)}`);
  }
  const required = /^Missing required arguments?: (.+)$/u.exec(message)?.[1];
  if (required !== undefined) {
    const flags = required.split(', ').map((name) => `--${name}`);
    return invalid(`${commandName(path)}: expected ${flags.join(' and ')}; ${helpOf(path)}`);
  }
  const choices = [...message.matchAll(/Argument: (\S+), Given: (.*), Choices: (.*)/gu)].map(
    ([, name, given, known]) =>
      `${argv.some((word) => isFlag(word, name!)) ? `--${name}` : `<${name}>`}: expected ${known!.replaceAll('"', '')}, got ${given}`,
  );
  if (choices.length > 0) return invalid(choices.join('; '));
  const without = /^Not enough arguments following: (\S+)$/u.exec(message)?.[1];
  if (without !== undefined) return invalid(`--${without}: expected a value`);
  const both = /^Arguments (\S+) and (\S+) are mutually exclusive$/u.exec(message);
  if (both !== null) return invalid(`--${both[1]} and --${both[2]}: expected one of them, got both`);
  const [first] = argv;
  if (path.length === 0 && first?.startsWith('-') === true)
    return invalid(`expected a command before ${first}; ${helpOf(path)}`);
  return invalid(message);
}

function explainUnknown(names: readonly string[], { argv, path, subcommands, flags }: Usage): TrainerError {
  const unknownFlags = names.filter((name) => argv.some((word) => isFlag(word, name)));
  if (unknownFlags.length > 0) {
    const hints = unknownFlags.map((name) => {
      const [near] = nearestNames(name, flags.names, 1);
      const typed = name.length === 1 ? `-${name}` : `--${name}`;
      return near === undefined ? typed : `${typed} (did you mean --${near}?)`;
    });
    return invalid(`unknown flag ${hints.join(', ')}; ${helpOf(path)}`);
  }
  const word = names.find((name) => argv.includes(name)) ?? names[0]!;
  const known = subcommands.map((command) => command.split(' ', 1)[0]!);
  if (known.length === 0) return invalid(`${commandName(path)}: unexpected argument "${word}"; ${helpOf(path)}`);
  const hint = nearestHint(word, known, path.length === 0 ? helpOf(path) : `known: ${known.join(', ')}`);
  return new TrainerError('NAME_UNKNOWN', `there is no command "${commandName(path)} ${word}"; ${hint}`);
}

/**
 * @param values as yargs parsed them, by name
 * @returns undefined if each flag has a value of its type
 */
export function findBadValue(
  values: Readonly<Record<string, unknown>>,
  { argv, flags }: Usage,
): TrainerError | undefined {
  const { numbers, strings, booleans, lists } = flags;
  const isPositional = (name: string): boolean => !argv.some((word) => isFlag(word, name));
  for (const name of [...numbers, ...strings, ...lists, ...booleans].filter((each) => Object.hasOwn(values, each))) {
    const value = values[name];
    const shown = isPositional(name) ? `<${name}>` : `--${name}`;
    const typed = typedValues(argv, name);
    if (!isPositional(name) && !booleans.includes(name) && typed.some((text) => text === undefined || text === ''))
      return invalid(`${shown}: expected a value`);
    if (value === '' && isPositional(name)) return invalid(`${shown}: expected a value, got ""`);
    if (booleans.includes(name)) {
      const wrong = argv.map((word) => new RegExp(`^--${name}=(?!true$|false$)(.*)$`, 'u').exec(word)?.[1]);
      const text = wrong.find((each) => each !== undefined);
      if (text !== undefined) return invalid(`${shown}: expected true or false, got "${text}"`);
    } else if (Array.isArray(value) && !lists.includes(name) && typed.length > 1)
      return invalid(`${shown}: expected one value, got ${typed.map((text) => `"${text}"`).join(' and ')}`);
    else if (numbers.includes(name) && Number.isNaN(value))
      return invalid(`${shown}: expected a number, got "${typed[0] ?? ''}"`);
  }
  return undefined;
}

/** The values that were typed for a flag; undefined where there is none. */
function typedValues(argv: readonly string[], name: string): (string | undefined)[] {
  return argv.flatMap((word, i) => {
    if (!isFlag(word, name)) return [];
    if (word.includes('=')) return [word.slice(word.indexOf('=') + 1)];
    const next = argv[i + 1];
    return [next === undefined || /^-(?:-|[a-z])/iu.test(next) ? undefined : next];
  });
}

/** yargs knows `--run-dir` as `--runDir` too. */
function isFlag(word: string, name: string): boolean {
  const camel = name.replaceAll(/-(.)/gu, (_, letter: string) => letter.toUpperCase());
  const spellings = [`--${name}`, `--${camel}`, `--no-${name}`, ...(name.length === 1 ? [`-${name}`] : [])];
  return spellings.includes(word.split('=', 1)[0]!);
}

function commandName(path: readonly string[]): string {
  return ['exmix', ...path.map((command) => command.split(' ', 1)[0]!)].join(' ');
}

function helpOf(path: readonly string[]): string {
  return path.length === 0 ? 'exmix --help lists the commands' : `${commandName(path)} --help shows what it takes`;
}

function invalid(message: string): TrainerError {
  return new TrainerError('CONFIG_INVALID', message);
}
