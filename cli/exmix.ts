/** Entry point of the program: runs the command line of this process. */

// Left alone, SIGUSR1 opens Node's inspector. Until the command handles it, it ends the process.
if (process.listenerCount('SIGUSR1') === 0)
  process.on('SIGUSR1', () => {
    if (process.listenerCount('SIGUSR1') === 1) process.exit(130);
  });
const { main } = await import('./main.ts'); // after the line above
process.exitCode = await main(process.argv.slice(2));
