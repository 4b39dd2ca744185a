/**
 * `POST /fault`: a fault on purpose, passed on to the worker whose link causes it (docs/chaos.md). A route of the control port only where
 * the run was started with `cluster.allowFaults`; elsewhere it is not there.
 */
import { z } from 'zod';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { nearestHint } from '../shared/nearest-names.ts';
import { faultKindSchema, MAX_FAULT_MS } from '../shared/protocol/messages.ts';
import type { Routes } from './control-requests.ts';
import type { WorkerHandle } from './worker-handle.ts';

const faultRequestSchema = z.strictObject({
  kind: faultKindSchema,
  workerId: z.string(),
  /** How long a partition lasts. */
  forMs: z.int().nonnegative().max(MAX_FAULT_MS),
});

export interface FaultRoutesInit {
  /** Whose sockets live. */
  readonly workers: () => readonly Pick<WorkerHandle, 'workerId' | 'send'>[];
  readonly log: Logger;
}

export function faultRoutes({ workers, log }: FaultRoutesInit): Routes {
  return {
    'POST /fault': ({ body }) => {
      const parsed = faultRequestSchema.safeParse(body);
      if (!parsed.success)
        throw new TrainerError('CONFIG_INVALID', `fault: ${z.prettifyError(parsed.error)}`, { cause: parsed.error });
      const { kind: fault, workerId, forMs } = parsed.data;
      const known = workers();
      const worker = known.find((candidate) => candidate.workerId === workerId);
      if (worker === undefined) {
        const ids = known.map((candidate) => candidate.workerId);
        const hint = nearestHint(workerId, ids, `known: ${ids.join(', ') || 'none'}`);
        throw new TrainerError('NAME_UNKNOWN', `no worker ${JSON.stringify(workerId)} is connected; ${hint}`);
      }
      worker.send({ kind: 'fault', fault, forMs });
      log.warn({ workerId, fault, forMs }, 'fault injected');
      return { workerId, kind: fault, forMs };
    },
  };
}
