/** `exmix coordinator`: runs only the control plane; workers on any host join it with `exmix worker`. */
import type { ConfigOverride } from '../../shared/config/load-config.ts';
import type { CommandBody } from '../command-body.ts';
import { addRunOptions, resolveConfig, storedConfigOf, type RunArguments } from '../run-options.ts';

interface CoordinatorArguments extends RunArguments {
  'min-workers'?: number | undefined;
  listen?: string | undefined;
  advertise?: string | undefined;
  port?: number | undefined;
  'token-file'?: string | undefined;
}

export const coordinatorCommand: CommandBody<CoordinatorArguments> = {
  builder: (parser) =>
    addRunOptions(parser)
      .option('min-workers', { type: 'number', describe: 'Workers to wait for' })
      .option('listen', { type: 'string', describe: 'Address to bind' })
      .option('advertise', {
        type: 'string',
        describe: 'Name or address at which other hosts reach it; default: found from --listen',
      })
      .option('port', { type: 'number', describe: 'Port to bind; 0: any free port' })
      .option('token-file', {
        type: 'string',
        describe: 'File with the token of the run; default: $EXMIX_TOKEN, else a new one',
      })
      .example(
        '$0 coordinator --preset ext5-base --listen 0.0.0.0 --port 7070 --min-workers 8',
        'on the first host of a cluster',
      ),
  handler: async (args) => {
    const flags: [string, unknown, string][] = [
      ['minWorkers', args['min-workers'], '--min-workers'],
      ['listenHost', args.listen, '--listen'],
      ['advertiseHost', args.advertise, '--advertise'],
      ['listenPort', args.port, '--port'],
    ];
    const extra: ConfigOverride[] = flags
      .filter(([, value]) => value !== undefined)
      .map(([field, value, origin]) => ({ path: ['cluster', field], value, origin }));
    const config = await resolveConfig(args, extra);
    // Loaded here: no other command needs a coordinator.
    const { runCoordinator } = await import('../run-coordinator.ts');
    await runCoordinator({ args, config, mixtureNamedBy: await storedConfigOf(args), tokenFile: args['token-file'] });
  },
};
