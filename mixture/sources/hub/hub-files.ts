/** Bytes of a file of a hub, straight from it. */
import { HttpStorage } from '../../../shared/storage/http-storage.ts';
import type { Storage } from '../../../shared/storage/storage.ts';
import type { SourceAccess } from '../source-access.ts';

/** Opened at the file: its key is the empty one. A redirect to another server does not take the token along. */
export function openHubFile(url: string, { hubToken, storage }: SourceAccess): Storage {
  const headers = hubToken === undefined ? {} : { headers: { authorization: `Bearer ${hubToken}` } };
  return new HttpStorage(url, { ...storage, ...headers });
}
