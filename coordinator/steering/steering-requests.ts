/** Routes of the control port that steer a run: `GET /mixture?last=100`, `POST /mixture/rates`. */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import type { Routes } from '../membership/control-requests.ts';
import { ratesRequestSchema, type Steering } from './steering.ts';
import { MAX_STEPS } from './steering-report.ts';

const lastSchema = z.coerce.number().int().min(1).max(MAX_STEPS).default(100);

/** @param steering undefined until the run trains */
export function steeringRoutes(steering: () => Steering | undefined): Routes {
  const expectSteering = (): Steering => {
    const found = steering();
    if (found !== undefined) return found;
    throw new TrainerError(
      'RUN_NOT_TRAINING',
      'the run is not training: it waits for its workers, or it ends; try again when "exmix status" says training',
      { retryable: true },
    );
  };
  return {
    'GET /mixture': ({ query }) => expectSteering().report(parse(lastSchema, query.get('last') ?? undefined, 'last')),
    'POST /mixture/rates': ({ body }) => expectSteering().change(parse(ratesRequestSchema, body, 'rates')),
  };
}

function parse<T>(schema: z.ZodType<T>, value: unknown, name: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new TrainerError('CONFIG_INVALID', `${name}: ${z.prettifyError(parsed.error)}`, { cause: parsed.error });
}
