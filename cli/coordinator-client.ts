/** Sends HTTP requests to the coordinator of a run. Its URL and token come from the run folder or from the user. */
import { z } from 'zod';
import { readAnnouncement, type CoordinatorAddress } from '../coordinator/run-folder/announcement.ts';
import { fromErrorRecord, TrainerError } from '../shared/errors.ts';
import { hasLogin, nameLocation } from '../shared/storage/location.ts';
import { readToken } from './token.ts';

/** A request fails after this time, ms. */
const QUERY_DEADLINE_MS = 3_000;
const failureSchema = z.object({ code: z.string(), message: z.string() });

/** Whether `run` is the URL of a coordinator; otherwise it is a run folder. */
export function isCoordinatorUrl(run: string): boolean {
  return /^(wss?|https?):\/\//u.test(run);
}

/**
 * @param flag for the message
 * @returns the URL as it was given
 * @throws CONFIG_INVALID unless it is ws(s):// or http(s)://host:port, without login, query and fragment: those would go to any host, and
 *   the token comes from a file or the environment
 */
export function checkCoordinatorUrl(url: string, flag: string): string {
  const parsed = isCoordinatorUrl(url) && URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || hasLogin(url) || parsed.search !== '' || parsed.hash !== '' || parsed.pathname !== '/')
    throw new TrainerError(
      'CONFIG_INVALID',
      `${flag}: expected ws://host:port without login, path or query, got ${JSON.stringify(nameLocation(url))}; the token of the run comes from $EXMIX_TOKEN or --token-file`,
    );
  return url;
}

/**
 * @param run a run folder, or a URL with the token in $EXMIX_TOKEN or a file
 * @returns undefined for a folder in which no coordinator ever listened
 * @throws CONFIG_INVALID without a token, PATH_UNUSABLE
 */
export async function findCoordinator(run: string, tokenFile?: string): Promise<CoordinatorAddress | undefined> {
  if (isCoordinatorUrl(run)) return { url: checkCoordinatorUrl(run, 'the run'), token: await readToken(tokenFile) };
  return readAnnouncement(run);
}

/**
 * @param path e.g. `/status`
 * @param body is sent by POST as JSON; without a body the request is a GET
 * @throws CONNECT_FAILED when no coordinator answers, AUTH_FAILED, and the error that the coordinator answers with
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
        `the coordinator at ${address.origin} refused the token: it coordinates another run`,
      );
    answer = await response.json();
  } catch (error) {
    if (error instanceof TrainerError) throw error;
    throw new TrainerError(
      'CONNECT_FAILED',
      `no coordinator answers at ${address.origin}; is the run still training?`,
      {
        retryable: true,
        cause: error,
      },
    );
  }
  if (response.ok) return answer;
  const failure = failureSchema.safeParse(answer);
  throw failure.success
    ? fromErrorRecord(failure.data)
    : new TrainerError('CONNECT_FAILED', `${nameLocation(address)} answered with status ${response.status}`);
}
