import type { ArgumentsCamelCase, Argv } from 'yargs';

/** What the module of a command exports: its options, and what it does. */
export interface CommandBody<Arguments = object> {
  builder(parser: Argv<object>): Argv<Arguments>;
  handler(args: ArgumentsCamelCase<Arguments>): void | Promise<void>;
}
