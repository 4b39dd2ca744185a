/** Asks the coordinator of a run over HTTP: where it listens and with which token is in the run folder, or given. */
import { z } from 'zod';
import { readAnnouncement, type CoordinatorAddress } from '../coordinator/run-folder/announcement.ts';
import { fromErrorRecord, TrainerError } from '../shared/errors.ts';
import { readToken } from './token.ts';

/** Time for an answer, ms. */
const QUERY_DEADLINE_MS = 3_000;
const failureSchema = z.object({ code: z.string(), message: z.string() });

/** Whether a run is named by the URL of its coordinator, not by its folder. */
export function isCoordinatorUrl(run: string): boolean {
  return /^(wss?|https?):\/\//u.test(run);
}

/**
 * @param run a run folder, or a URL with the token in $EXMIX_TOKEN or a file
 * @returns undefined for a folder in which no coordinator was ever announced
 * @throws CONFIG_INVALID without a token, PATH_UNUSABLE
 */
export async function findCoordinator(run: string, tokenFile?: string): Promise<CoordinatorAddress | undefined> {
  if (isCoordinatorUrl(run)) return { url: run, token: await readToken(tokenFile) };
  return readAnnouncement(run);
}

/**
 * @param path e.g. `/status`
 * @param body sent by POST as JSON; GET without it
 * @throws CONNECT_FAILED where nobody answers or somebody else does, AUTH_FAILED, and what the coordinator answers with
 */
export async function askCoordinator(
  { url, token }: CoordinatorAddress,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const address = new URL(path, url.replace(/^ws/u, 'http'));
  const headers = { authorization: `Bearer ${token}` };
  const signal = AbortSignal.timeout(QUERY_DEADLINE_MS);
  let response: Response;
  let answer: unknown;
  try {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    response = await fetch(address, { headers, signal, ...init });
    if (response.status === 401)
      throw new TrainerError(
        'AUTH_FAILED',
        `${address.origin} is the coordinator of another run: it has another token`,
      );
    answer = await response.json();
  } catch (error) {
    if (error instanceof TrainerError) throw error;
    throw new TrainerError('CONNECT_FAILED', `no coordinator answers at ${address.origin}; is the run still going?`, {
      retryable: true,
      cause: error,
    });
  }
  if (response.ok) return answer;
  const failure = failureSchema.safeParse(answer);
  throw failure.success
    ? fromErrorRecord(failure.data)
    : new TrainerError('CONNECT_FAILED', `${address.href} answered with status ${response.status}`);
}
