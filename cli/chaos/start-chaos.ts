/** Checks the flags of `exmix train --chaos` before any process starts, and starts the supervised run. */
import { join } from 'node:path';
import { isRunFolder } from '../../coordinator/run-folder/run-folder.ts';
import { systemClock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { parseChaosSpec } from './chaos-spec.ts';
import { runChaos, undisturbedFolder } from './run-chaos.ts';

export interface ChaosArguments {
  chaos?: string | undefined;
  'chaos-seed'?: number | undefined;
  'chaos-verify': boolean;
  'run-dir'?: string | undefined;
  resume?: string | undefined;
}

/** @throws CONFIG_INVALID */
export async function startChaos(args: ChaosArguments & { chaos: string }, config: RunConfig): Promise<number> {
  const { chaos, 'chaos-seed': seed = 1, 'chaos-verify': verify, resume } = args;
  const spec = parseChaosSpec(chaos);
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw invalid(`--chaos-seed: expected a whole number from 0, got ${seed}`);
  if (resume !== undefined)
    throw invalid('--chaos: expected --run-dir with the folder of the run to resume, got --resume');
  const time = new Date(systemClock.wallMs()).toISOString().slice(0, 19).replaceAll(/[-:]/gu, '').replace('T', '-');
  const runDir = args['run-dir'] ?? join('runs', `${config.name}-chaos-${time}`);
  const undisturbed = undisturbedFolder(runDir);
  if (verify && (await isRunFolder(undisturbed)))
    throw invalid(
      `--chaos-verify: expected no run in ${undisturbed}, there is one; remove it or give another --run-dir`,
    );
  return runChaos({ argv: process.argv.slice(2), runDir, config, spec, seed, verify, clock: systemClock });
}

/** @throws CONFIG_INVALID for flags that need --chaos */
export function refuseWithoutChaos({ 'chaos-seed': seed, 'chaos-verify': verify }: ChaosArguments): void {
  if (seed !== undefined || verify)
    throw invalid(`--${verify ? 'chaos-verify' : 'chaos-seed'}: expected --chaos with the faults to inject as well`);
}

function invalid(message: string): TrainerError {
  return new TrainerError('CONFIG_INVALID', message);
}
