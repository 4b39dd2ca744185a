/** `exmix train`: runs a coordinator and N worker processes on this host, from raw sources to the last checkpoint. */
import { TrainerError } from '../../shared/errors.ts';
import type { CommandBody } from '../command-body.ts';
import { createLocalWorkers, resolveOnThisHost } from '../launch/create-local-workers.ts';
import { refuseWithoutChaos, startChaos, type ChaosArguments } from '../chaos/start-chaos.ts';
import { addRunOptions, resolveConfig, storedConfigOf, type RunArguments } from '../run-options.ts';

interface TrainArguments extends RunArguments, ChaosArguments {
  workers: number;
}

export const trainCommand: CommandBody<TrainArguments> = {
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
    const local = await resolveOnThisHost(config, workers);
    // Loaded here: no other command needs a coordinator.
    const { runCoordinator } = await import('../run-coordinator.ts');
    const mixtureNamedBy = await storedConfigOf(args);
    await runCoordinator({ args, mixtureNamedBy, ...local, workerHost: createLocalWorkers(workers) });
  },
};
