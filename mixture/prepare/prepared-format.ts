/** What all files of a prepared mixture share: the version of the layout, and the hash. */
import { createHash } from 'node:crypto';

/** Raised when the layout or the rules of preparing change: what older versions made is prepared again. */
export const FORMAT_VERSION = 2;

/** Hex. */
export function sha256Of(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
