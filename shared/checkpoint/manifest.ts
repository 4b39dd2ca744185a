/**
 * `manifest.json`: size and SHA-256 of every other file of a checkpoint, and of itself, so that every changed byte is detected. It is
 * written last; a folder without a valid manifest is no checkpoint.
 *
 * The text of a manifest is canonical: indented by two spaces, files sorted by name, `sha256` last. `sha256` is over the text without it.
 * The reader compares the text with the canonical one.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { TrainerError } from '../errors.ts';
import { compareNames } from './shard-plan.ts';

const FORMAT = 'exmix-checkpoint';
const VERSION = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits');

/** A file directly in the folder: no separators, not hidden. */
export const fileEntrySchema = z.strictObject({
  file: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]*$/, 'expected a plain file name'),
  bytes: z.int().nonnegative(),
  sha256,
});

export type FileEntry = z.output<typeof fileEntrySchema>;

const manifestSchema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  step: z.int().nonnegative(),
  files: z.array(fileEntrySchema),
  sha256,
});

export interface Manifest {
  readonly step: number;
  /** By name; every file but the manifest itself. */
  readonly files: readonly FileEntry[];
}

/** The text of `manifest.json`. */
export function encodeManifest({ step, files }: Manifest): string {
  const ordered = files
    .map(({ file, bytes, sha256 }) => ({ file, bytes, sha256 }))
    .sort((a, b) => compareNames(a.file, b.file));
  const content = { format: FORMAT, version: VERSION, step, files: ordered };
  const own = createHash('sha256').update(JSON.stringify(content)).digest('hex');
  return `${JSON.stringify({ ...content, sha256: own }, null, 2)}\n`;
}

/** @param path for the message @throws CHECKPOINT_CORRUPT if the text is not a canonical manifest, byte for byte */
export function decodeManifest(text: string, path: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: expected JSON: ${String(error)}`, { cause: error });
  }
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success)
    throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: not a manifest: ${z.prettifyError(parsed.error)}`, {
      cause: parsed.error,
    });
  const { step, files, sha256 } = parsed.data;
  const canonical = encodeManifest({ step, files });
  if (canonical !== text) {
    const expected = /"sha256": "([0-9a-f]{64})"\n}\n$/.exec(canonical)?.[1] ?? '';
    const how =
      expected === sha256 ? 'its layout was changed' : `its content has SHA-256 ${expected}, it says ${sha256}`;
    throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: changed after it was written: ${how}`);
  }
  if (new Set(files.map(({ file }) => file)).size !== files.length)
    throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: names a file twice`);
  return { step, files };
}
