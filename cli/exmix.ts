/** Entry point of the program: runs the command line of this process. */
import { main } from './main.ts';

process.exitCode = await main(process.argv.slice(2));
