/** Opens a run on its prepared mixture: for a command line (run-coordinator.ts) and for a program (api/train.ts). */
import { Run, type RunInit } from '../coordinator/run.ts';
import { openValidationSets } from '../coordinator/validation/open-validation-sets.ts';
import { optimizerSlots } from '../worker/model/optimizer-slots.ts';
import { parameterSpecs } from '../worker/model/parameters.ts';
import type { MixtureOfRun } from './ensure-prepared.ts';
import type { ResolvedCompute } from './launch/resolve-compute.ts';

export interface OpenPreparedRunInit extends Omit<RunInit, 'config' | 'mixture' | 'checkpoint' | 'validation'> {
  readonly prepared: MixtureOfRun;
  /** How the engine was chosen, if the workers run on this host. */
  readonly resolved?: ResolvedCompute | undefined;
}

/** @throws the errors of Run.open and openValidationSets */
export async function openPreparedRun({ prepared, resolved, ...init }: OpenPreparedRunInit): Promise<Run> {
  const { config, mixture, declared, tokenizerFiles } = prepared;
  const parameters = parameterSpecs(config.model);
  const tensors = { parameters, optimizerSlots: optimizerSlots(parameters, config.optimizer.kind) };
  const checkpoint = { tensors, tokenizerFiles };
  const sets = { mixture: declared, preparedFolder: mixture.folder, signal: init.stop.atOnce };
  const validation = await openValidationSets({ config, ...sets });
  const run = await Run.open({ ...init, config, mixture, checkpoint, validation });
  if (resolved !== undefined) {
    run.log.info({ engine: config.compute.engine, reason: resolved.reason }, 'engine chosen');
    for (const reason of resolved.notes) run.log.warn({ reason }, 'engine not as it could be');
  }
  return run;
}
