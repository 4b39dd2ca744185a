/** `exmix mixture`: rates of a prepared mixture, changes of a run's rates, and a report on a run's mixture. */
import type { CommandModule } from 'yargs';
import type { CommandBody } from '../command-body.ts';
import { ratesCommand } from './mixture-rates.ts';
import { setCommand } from './mixture-set.ts';
import { showCommand } from './mixture-show.ts';

const COMMANDS = [ratesCommand, setCommand, showCommand] as unknown as CommandModule[]; // each is typed by its own options

export const mixtureCommand: CommandBody = {
  builder: (parser) => parser.command(COMMANDS),
  handler: () => undefined, // yargs calls a subcommand
};
