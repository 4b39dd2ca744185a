/**
 * A request through an HTTP proxy, by undici: Node's own fetch is made of it, but has no proxies before Node 24.
 *
 * A request for an https: URL goes through a tunnel (CONNECT), one for http: is sent to the proxy itself, as other tools do. A module
 * of its own, loaded at the first request with a proxy.
 */
import { fetch as undiciFetch, ProxyAgent } from 'undici';
import { TrainerError } from '../errors.ts';
import type { Proxy } from './proxy.ts';
import { PassingFailure } from './retries.ts';

/** One pool of connections for each proxy. */
const agents = new Map<string, ProxyAgent>();

/** Redirects are not followed. @throws STORAGE_DENIED if the proxy refuses; PassingFailure; errors of fetch */
export async function fetchThroughProxy(request: Request, proxy: Proxy, signal: AbortSignal): Promise<Response> {
  const body = request.body === null ? {} : { body: await request.arrayBuffer() };
  try {
    const {
      status,
      statusText,
      headers,
      body: content,
    } = await undiciFetch(request.url, {
      method: request.method,
      headers: [...request.headers],
      ...body,
      redirect: 'manual',
      signal,
      dispatcher: agentOf(proxy),
    });
    if (status === 407) {
      await content?.cancel();
      throw loginNeeded(proxy);
    }
    return new Response(content, { status, statusText, headers: [...headers] });
  } catch (error) {
    throw refusalOf(error, proxy, new URL(request.url).host) ?? error;
  }
}

function agentOf({ url }: Proxy): ProxyAgent {
  const known = agents.get(url.href);
  if (known !== undefined) return known;
  const { username, password } = url;
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const agent = new ProxyAgent({
    uri: `${url.protocol}//${url.host}`,
    proxyTunnel: false, // for http: URLs
    ...(username === '' ? {} : { token: `Basic ${Buffer.from(login).toString('base64')}` }),
  });
  agents.set(url.href, agent);
  return agent;
}

/** undici says only in words that the proxy refused: with a status instead of a tunnel, or 407. */
function refusalOf(thrown: unknown, proxy: Proxy, host: string): TrainerError | undefined {
  for (let error: unknown = thrown; error instanceof Error; error = error.cause) {
    const found = /^Proxy response \((\d+)\)|^Proxy Authentication Required \((407)\)/u.exec(error.message);
    if (found === null) continue;
    const status = Number(found[1] ?? found[2]);
    if (status === 407) return loginNeeded(proxy);
    const answer = `the proxy ${proxy.name} answers ${status} for ${host}`;
    if (status === 408 || status === 429 || status >= 500) return new PassingFailure(answer, 0, thrown);
    return new TrainerError('STORAGE_DENIED', `${answer}; allow that host there, or name it in NO_PROXY`, {
      cause: thrown,
    });
  }
  return undefined;
}

function loginNeeded({ url, name }: Proxy): TrainerError {
  const login = url.username === '' ? 'none was given' : 'another one was given';
  return new TrainerError(
    'STORAGE_DENIED',
    `the proxy ${name} wants a login (407), and ${login}: write it into that variable, as http://user:password@${url.host}`,
  );
}
