/** Entry point of the program: runs the command line of this process. */
import { flushStandardStreams, standardError, standardOutput } from '../shared/standard-streams.ts';

// Left alone, SIGUSR1 opens Node's inspector. Until the command handles it, it ends the process.
if (process.listenerCount('SIGUSR1') === 0)
  process.on('SIGUSR1', () => {
    if (process.listenerCount('SIGUSR1') === 1) process.exit(130);
  });
standardOutput.guard();
standardError.guard();
const { main } = await import('./main.ts'); // after the lines above
process.exitCode = await main(process.argv.slice(2));
if (!(await flushStandardStreams())) process.exit(); // a reader that takes nothing would keep the process alive
