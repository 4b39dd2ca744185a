/** Runs one command line: parses it, calls the command (command-list.ts), and turns errors into exit statuses. */
import yargs from 'yargs';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import { nearestNames } from '../shared/nearest-names.ts';
import { VERSION } from '../shared/version.ts';
import { COMMANDS } from './command-list.ts';
import { exitCodeOf } from './exit-codes.ts';

/** @returns the exit status; a command that ended well but not with 0 has set process.exitCode itself */
export async function main(argv: readonly string[]): Promise<number> {
  const parser = yargs([...argv])
    .scriptName('exmix')
    .usage('$0 <command>: pre-trains ExT5 by data-parallel steps over any number of workers')
    .command([...COMMANDS])
    .demandCommand(1, 'expected a command; exmix --help lists them')
    .recommendCommands()
    .strict()
    .version(VERSION)
    .alias('help', 'h')
    .wrap(Math.min(120, process.stdout.columns))
    .epilogue(
      'Exit status: 0 done, 2 usage or config, 3 data, 4 run failed, 5 refused by the run, 130 interrupted and saved.',
    )
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      throw error ?? new TrainerError('CONFIG_INVALID', withNearestFlags(message ?? 'bad usage', knownFlags(parser)));
    });
  try {
    await parser.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    const error = toTrainerError(thrown);
    process.stderr.write(`exmix: ${error.code}: ${error.message}\n`);
    if (error.code === 'INTERNAL' && error.cause instanceof Error) process.stderr.write(`${error.cause.stack ?? ''}\n`);
    return exitCodeOf(error);
  }
}

/** Adds "did you mean" to yargs' message about unknown arguments. */
function withNearestFlags(message: string, known: readonly string[]): string {
  const unknown = /^Unknown arguments?: (.+)$/u.exec(message)?.[1];
  if (unknown === undefined) return message;
  const hints = unknown.split(', ').map((name) => {
    const near = nearestNames(name, known).map((flag) => `--${flag}`);
    return near.length > 0 ? `--${name} (did you mean ${near.join(' or ')}?)` : `--${name}`;
  });
  return `unknown flag ${hints.join(', ')}; --help lists the flags`;
}

/** The flags of the command that is being parsed. */
function knownFlags(parser: object): string[] {
  // yargs has getOptions but does not declare it.
  const { getOptions } = parser as { getOptions?: () => { key?: object } };
  return Object.keys(getOptions?.call(parser).key ?? {}).filter((name) => name.length > 1);
}
