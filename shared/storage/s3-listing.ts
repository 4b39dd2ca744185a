/** Parses a page of ListObjectsV2 without an XML library: its form is known and flat. The request asks for URL-encoded keys. */
import { TrainerError } from '../errors.ts';
import type { ListedObject } from './storage.ts';

export interface ListingPage {
  readonly objects: readonly ListedObject[];
  /** Of the next page; undefined on the last one. */
  readonly nextToken?: string;
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };

/** @param place the listed place, for messages @throws STORAGE_UNAVAILABLE if it is not such a page */
export function parseListing(xml: string, place: string): ListingPage {
  const result = /<ListBucketResult[^>]*>([^]*)<\/ListBucketResult>/u.exec(xml)?.[1];
  if (result === undefined)
    throw new TrainerError(
      'STORAGE_UNAVAILABLE',
      `${place}: the answer is not a list of a bucket: ${xml.slice(0, 200)}`,
    );
  const isEncoded = textOf(result, 'EncodingType') === 'url';
  const objects = [...result.matchAll(/<Contents>([^]*?)<\/Contents>/gu)].map(([, entry]) => {
    const key = textOf(entry!, 'Key') ?? '';
    const bytes = Number(textOf(entry!, 'Size'));
    const etag = textOf(entry!, 'ETag') ?? '';
    if (key === '' || !Number.isSafeInteger(bytes))
      throw new TrainerError('STORAGE_UNAVAILABLE', `${place}: an entry has no key or size: ${entry!.slice(0, 200)}`);
    return {
      key: isEncoded ? decodeURIComponent(key.replaceAll('+', ' ')) : key,
      bytes,
      version: `etag:"${etag.replaceAll('"', '')}"`,
    };
  });
  const nextToken = textOf(result, 'IsTruncated') === 'true' ? textOf(result, 'NextContinuationToken') : undefined;
  return nextToken === undefined ? { objects } : { objects, nextToken };
}

/** Text of the first element of that name. */
function textOf(xml: string, name: string): string | undefined {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`, 'u').exec(xml)?.[1];
  return text?.replace(
    /&(?:#x([0-9a-f]+)|#(\d+)|([a-z]+));/giu,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return ENTITIES[name ?? ''] ?? whole;
    },
  );
}
