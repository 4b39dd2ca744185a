/** Runs one command line: parses it, calls the command (command-list.ts), and turns errors into exit statuses. */
import yargs from 'yargs';
import { toTrainerError } from '../shared/errors.ts';
import { adviceOnHome } from '../shared/exmix-home.ts';
import { standardError, standardOutput } from '../shared/standard-streams.ts';
import { VERSION } from '../shared/version.ts';
import { COMMANDS } from './command-list.ts';
import { exitCodeOf } from './exit-codes.ts';
import { explainUsage, findBadValue, type Usage } from './usage-errors.ts';

/** @returns the exit status; a command that ended well but not with 0 has set process.exitCode itself */
export async function main(argv: readonly string[]): Promise<number> {
  const parser = yargs([...argv])
    .scriptName('exmix')
    .usage('$0 <command>: pre-trains ExT5 by data-parallel steps over any number of workers')
    .command([...COMMANDS])
    .demandCommand(1, 'expected a command; exmix --help lists the commands')
    .strict()
    .version(VERSION)
    .alias('help', 'h')
    .wrap(Math.min(120, standardOutput.columns ?? 120))
    .epilogue(
      'Exit status: 0 done, 2 usage or config, 3 data, 4 run failed, 5 refused by the run, 130 interrupted and saved.',
    )
    .exitProcess(false)
    .check((values) => {
      const problem = findBadValue(values, usageOf(parser, argv));
      if (problem !== undefined) throw problem;
      return true;
    })
    .fail((message: string | null, error: Error | undefined) => {
      throw error ?? explainUsage(message ?? 'bad usage', usageOf(parser, argv));
    });
  try {
    if (argv[0] === '--complete') {
      const { complete } = await import('./completion.ts'); // called by the script of a shell
      await standardOutput.print((await complete(argv.slice(1))).map((candidate) => `${candidate}\n`).join(''));
      return 0;
    }
    let help = '';
    await parser.parseAsync([...argv], {}, (_error, _values, text) => {
      help = text;
    });
    if (help !== '') await standardOutput.print(`${help}\n`);
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    const isUsage = thrown instanceof Error && thrown.name === 'YError'; // of yargs
    const error = isUsage ? explainUsage(thrown.message, usageOf(parser, argv)) : toTrainerError(thrown);
    const advice = adviceOnHome(error);
    standardError.write(`exmix: ${error.code}: ${error.message}${advice === undefined ? '' : `; ${advice}`}\n`);
    if (error.code === 'INTERNAL' && error.cause instanceof Error) standardError.write(`${error.cause.stack ?? ''}\n`);
    return exitCodeOf(error);
  }
}

/** The parts of a yargs parser that its types leave out: the command that is being parsed, and its options. */
interface ParserState {
  getOptions(): Record<'number' | 'string' | 'boolean' | 'array', readonly string[]> & { readonly key: object };
  getInternalMethods(): {
    getContext(): { readonly fullCommands: readonly string[] };
    getUsageInstance(): { getCommands(): readonly (readonly [command: string, ...unknown[]])[] };
  };
}

function usageOf(parser: object, argv: readonly string[]): Usage {
  const state = parser as ParserState;
  const { key, number: numbers, string: strings, boolean: booleans, array: lists } = state.getOptions();
  const internals = state.getInternalMethods();
  return {
    argv,
    path: internals.getContext().fullCommands,
    subcommands: internals
      .getUsageInstance()
      .getCommands()
      .map(([command]) => command),
    flags: { names: Object.keys(key).filter((name) => name.length > 1), numbers, strings, booleans, lists },
  };
}
