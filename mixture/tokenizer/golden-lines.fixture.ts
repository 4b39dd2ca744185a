/** The reference texts of golden/sentencepiece with the results of the official library. */
import { readFileSync } from 'node:fs';

export interface GoldenLine {
  readonly n: number;
  readonly text: string;
  readonly normalized: string;
  readonly ids: number[];
  readonly decoded: string;
  readonly seqio_ids?: number[];
}

const folder = new URL('../../golden/sentencepiece/', import.meta.url);

export const GOLDEN_MODEL_PATH = new URL('spiece.model', folder).pathname;

export function readGoldenModel(): Uint8Array {
  return readFileSync(new URL('spiece.model', folder));
}

export function readGoldenLines(): GoldenLine[] {
  const lines = readFileSync(new URL('oracle.jsonl', folder), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line) as GoldenLine);
}
