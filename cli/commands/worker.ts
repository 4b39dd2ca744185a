/** `exmix worker`: joins a coordinator and computes until the run ends. One process uses one device. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logger.ts';
import { localRankOf } from '../../worker/machine/visible-device.ts';
import { checkCoordinatorUrl } from '../coordinator-client.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { EXIT_INTERRUPTED, EXIT_RUN_FAILED } from '../exit-codes.ts';
import { ProcessSignals } from '../process-signals.ts';
import { readToken } from '../token.ts';

const DEVICES = ['auto', 'cpu', 'gpu'] as const;

interface WorkerArguments {
  url: string;
  id: string;
  'token-file'?: string | undefined;
  engine?: string | undefined;
  device?: (typeof DEVICES)[number] | undefined;
  'local-rank'?: number | undefined;
  listen?: string | undefined;
  port: number;
  advertise?: string | undefined;
}

export const workerCommand: CommandBody<WorkerArguments> = {
  builder: (parser) =>
    parser
      .option('url', { type: 'string', demandOption: true, describe: 'URL of the coordinator, ws://host:port' })
      .option('token-file', { type: 'string', describe: 'File with the token of the run; default: $EXMIX_TOKEN' })
      .option('id', {
        type: 'string',
        // Containers often have one host name and one pid.
        default: `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`,
        defaultDescription: 'HOST-PID-RANDOM',
        describe: 'Name of this worker, unique in the run',
      })
      .option('engine', { type: 'string', describe: "Overrides the run's engine" })
      .option('device', { type: 'string', choices: DEVICES, describe: "Overrides the run's device" })
      .option('local-rank', {
        type: 'number',
        describe: 'Index of its GPU on this host, from 0; default: $LOCAL_RANK, $SLURM_LOCALID or 0',
      })
      .option('listen', {
        type: 'string',
        describe: 'Address to which the data port binds; default: the own address of the connection to the coordinator',
      })
      .option('port', { type: 'number', default: 0, describe: 'Data port; 0: any free port' })
      .option('advertise', {
        type: 'string',
        describe: 'Address at which other workers reach this one; default: the one to which the data port binds',
      })
      .example('EXMIX_TOKEN=$(cat token) $0 worker --url ws://coordinator:7070', 'on each GPU of a cluster'),
  handler: async (args) => {
    const coordinatorUrl = checkCoordinatorUrl(args.url, '--url');
    const signals = new ProcessSignals({ canStopGently: true });
    const token = await readToken(args['token-file']);
    const log = createLogger({
      fields: { workerId: args.id, pid: process.pid },
      onRecord: (record) => standardOutput.write(`${JSON.stringify(record)}\n`),
    });
    // Loaded here: no other command needs an engine.
    const { Worker } = await import('../../worker/worker.ts');
    const { createWorkerParts } = await import('../../worker/worker-parts.ts');
    const parts = createWorkerParts({
      coordinatorUrl,
      token,
      workerId: args.id,
      listenHost: args.listen,
      listenPort: checkPort(args.port),
      advertiseHost: args.advertise,
      ...(args.engine === undefined ? {} : { engine: args.engine }),
      ...(args.device === undefined ? {} : { device: args.device }),
      localRank: checkLocalRank(args['local-rank'] ?? localRankOf(process.env)),
      log,
    });
    const { outcome } = await new Worker({ parts, clock: systemClock, log }).run(signals);
    process.exitCode = EXIT_OF[outcome];
  },
};

/** The exit status follows the run. */
const EXIT_OF = { finished: 0, interrupted: EXIT_INTERRUPTED, failed: EXIT_RUN_FAILED };
function checkPort(port: number): number {
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new TrainerError('CONFIG_INVALID', `--port: expected a whole number from 0 to 65535, got ${port}`);
}

function checkLocalRank(rank: number): number {
  if (Number.isInteger(rank) && rank >= 0) return rank;
  throw new TrainerError('CONFIG_INVALID', `--local-rank: expected a whole number from 0, got ${rank}`);
}
