/** A `source:` of a mixture file → SourceSpec, with paths made absolute. */
import { basename, isAbsolute, resolve } from 'node:path';
import { localPathOf } from '../../shared/storage/location.ts';
import type { SourceEntry } from './mixture-schema.ts';
import type { SourceFile, SourceSpec } from './task.ts';

/** @param entry as the schema lets it through @param folder what relative paths are relative to */
export function buildSource(entry: SourceEntry, folder: string): SourceSpec {
  const { hub, config, split = 'train', revision, files, format, quotes = true } = entry;
  if (hub !== undefined)
    return {
      kind: 'hub',
      dataset: hub,
      split,
      ...(config === undefined ? {} : { config }),
      ...(revision === undefined ? {} : { revision }),
      ...(files === undefined ? {} : { files: listOf(files) }),
      format: format ?? 'parquet',
      quotes,
    };
  return {
    kind: 'files',
    format: format ?? 'jsonl',
    quotes,
    files: listOf(entry.path ?? []).map((path) => buildFile(path, folder)),
  };
}

function buildFile(path: string, folder: string): SourceFile {
  const local = localPathOf(path);
  if (local !== undefined)
    return {
      location: resolve(folder, local),
      name: (isAbsolute(local) ? basename(local) : local).replaceAll('\\', '/'),
    };
  // What stands behind a question mark may be a signature, and before an @ a login: they are no part of the name.
  return { location: path, name: path.replace(/[?#].*$/u, '').replace(/^(https?:\/\/)[^/@]*@/iu, '$1') };
}

export function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
