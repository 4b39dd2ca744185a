/** `exmix mixture`: what is in a mixture and how often it is drawn; what a run's mixture does, and changing its rates meanwhile. */
import type { CommandModule } from 'yargs';
import type { CommandBody } from '../command-body.ts';
import { ratesCommand } from './mixture-rates.ts';
import { setCommand } from './mixture-set.ts';
import { showCommand } from './mixture-show.ts';

const COMMANDS = [ratesCommand, setCommand, showCommand] as unknown as CommandModule[]; // each is typed by its own options

export const mixtureCommand: CommandBody = {
  builder: (parser) => parser.command(COMMANDS),
  handler: () => undefined, // a command below it is called
};
