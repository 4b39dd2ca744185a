/** `exmix train`: runs a coordinator and N worker processes on this host, from raw sources to the last checkpoint. */
import { availableParallelism } from 'node:os';
import type { CommandModule } from 'yargs';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readEngineFacts } from '../../worker/engine-choice/read-engine-facts.ts';
import { LocalWorkers } from '../launch/local-workers.ts';
import { resolveCompute } from '../launch/resolve-compute.ts';
import { refuseWithoutChaos, startChaos, type ChaosArguments } from '../chaos/start-chaos.ts';
import { addRunOptions, resolveConfig, type RunArguments } from '../run-options.ts';

/** After the end of the run, workers have so long to exit without a signal, ms. */
const WORKER_GRACE_MS = 15_000;
/** Pauses before a worker is restarted, and how often it is restarted without progress. */
const RESTART = { limit: 5, firstPauseMs: 500, longestPauseMs: 30_000 };

interface TrainArguments extends RunArguments, ChaosArguments {
  workers: number;
}

export const trainCommand: CommandModule<object, TrainArguments> = {
  command: 'train',
  describe: 'Trains on this host: a coordinator and N worker processes',
  builder: (parser) =>
    addRunOptions(parser)
      .option('workers', { type: 'number', default: 2, describe: 'Worker processes' })
      .option('chaos', {
        type: 'string',
        describe: 'Inject faults: fault=PROBABILITY per step or fault@STEP, e.g. kill=0.02,join@20 (docs/chaos.md)',
      })
      .option('chaos-seed', { type: 'number', describe: 'Seed of the faults; default 1' })
      .option('chaos-verify', {
        type: 'boolean',
        default: false,
        describe: 'Afterwards train the same run without faults; its bits must be equal',
      })
      .example('$0 train --preset demo', 'trains the demo in about five minutes')
      .example('$0 train --preset demo --workers 3 --steps 12 --seed 7', 'the same bits as with one worker')
      .example(
        '$0 train --preset demo --workers 3 --chaos kill=0.05 --chaos-verify',
        'kills workers; the bits stay the same',
      )
      .example('$0 train --resume runs/demo-20261123-120000 --steps 400', 'resumes a run and trains up to step 400'),
  handler: async (args) => {
    const { workers } = args;
    if (!Number.isInteger(workers) || workers < 1)
      throw new TrainerError('CONFIG_INVALID', `--workers: expected a whole number of at least 1, got ${workers}`);
    const config = await resolveConfig(args, [
      { path: ['cluster', 'startWorkers'], value: workers, origin: '--workers' },
    ]);
    if (args.chaos !== undefined) {
      process.exitCode = await startChaos({ ...args, chaos: args.chaos }, config);
      return;
    }
    refuseWithoutChaos(args);
    const host = { facts: await readEngineFacts(), numWorkers: workers, numCores: availableParallelism() };
    const resolved = resolveCompute(config.compute, host);
    // Loaded here: no other command needs a coordinator.
    const { runCoordinator } = await import('../run-coordinator.ts');
    await runCoordinator({
      args,
      config: { ...config, compute: resolved.compute },
      resolved,
      workerHost: new LocalWorkers({
        count: workers,
        clock: systemClock,
        restart: RESTART,
        graceMs: WORKER_GRACE_MS,
      }),
    });
  },
};
