import type { ArgumentsCamelCase, Argv } from 'yargs';

/** The export of a command module: its options and its handler. */
export interface CommandBody<Arguments = object> {
  builder(parser: Argv<object>): Argv<Arguments>;
  handler(args: ArgumentsCamelCase<Arguments>): void | Promise<void>;
}
