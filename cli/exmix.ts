/** Entry point of the program: runs the command line of this process. */
import { flushStandardStreams, standardError, standardOutput } from '../shared/standard-streams.ts';
import { main } from './main.ts';

standardOutput.guard();
standardError.guard();
process.exitCode = await main(process.argv.slice(2));
if (!(await flushStandardStreams())) process.exit(); // a reader that takes nothing would keep the process alive
