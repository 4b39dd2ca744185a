/** A split of a data set on a hub → its files at one commit. */
import { nameLocation } from '../../../shared/storage/location.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { listNames } from '../../../shared/list-names.ts';
import { nearestHint } from '../../../shared/nearest-names.ts';
import type { HubSource } from '../../tasks/task.ts';
import { createGlob, globFolder, isGlob } from '../glob.ts';
import type { HubOrigin, ResolvedSource } from '../resolved-source.ts';
import type { SourceAccess } from '../source-access.ts';
import { openHubFile } from './hub-cache.ts';
import { HubClient, type HubFile } from './hub-client.ts';
import { expectedRows, NO_CARD, parseCard, type HubCard } from './hub-card.ts';
import { findConverted, findSplit, type SplitFiles } from './hub-splits.ts';

const CONVERTED = 'refs/convert/parquet';
const CARD = 'README.md';
const SYNTAX = { classes: true };
/** Bytes of a README that are read: its header. */
const MAX_CARD_BYTES = 4 * 1024 * 1024;

/**
 * @throws NAME_UNKNOWN (data set, revision, configuration, split, files), STORAGE_DENIED (gated, private), STORAGE_UNAVAILABLE,
 *   ABORTED
 */
export async function resolveHub(
  source: HubSource,
  access: SourceAccess,
  signal?: AbortSignal,
): Promise<ResolvedSource> {
  const client = new HubClient(source.dataset, access, signal);
  const { commit, files, rows } = await findFiles(source, client, access, signal);
  const { dataset, config, split, format = 'parquet', quotes = true } = source;
  const origin: HubOrigin = { dataset, ...(config === undefined ? {} : { config }), split, revision: commit };
  return {
    format,
    quotes,
    files: files.map(({ path, bytes, version }) => ({
      name: path,
      location: fileUrl(access.hubUrl, dataset, commit, path),
      bytes,
      version,
    })),
    origin,
    ...(rows === undefined ? {} : { expectedRows: rows }),
  };
}

interface Found {
  readonly commit: string;
  readonly files: readonly HubFile[];
  /** As README.md tells. */
  readonly rows?: number | undefined;
}

async function findFiles(
  source: HubSource,
  client: HubClient,
  access: SourceAccess,
  signal: AbortSignal | undefined,
): Promise<Found> {
  const { dataset, split, config, revision = 'main' } = source;
  const commit = await client.findCommit(revision);
  if (commit === undefined)
    throw new TrainerError(
      'NAME_UNKNOWN',
      `data set ${dataset}: no revision ${revision} on ${nameLocation(access.hubUrl)}; it may have been moved or removed: name an existing branch, tag or commit`,
    );
  if (source.files !== undefined) return { commit, files: await findByGlobs(source, source.files, commit, client) };
  const all = await client.listFiles(commit);
  const card = await readCard(dataset, commit, all, access, signal);
  const paths = all.map(({ path }) => path);
  const found = findSplit(paths, card, { config, split });
  const take = (
    of: string,
    files: readonly HubFile[],
    { config: name, paths: taken }: SplitFiles & { kind: 'files' },
  ) => {
    const chosen = new Set(taken);
    return { commit: of, files: files.filter(({ path }) => chosen.has(path)), rows: expectedRows(card, name, split) };
  };
  if (found.kind === 'files') return take(commit, all, found);
  if (found.kind === 'refused') throw unknownSplit(dataset, found.reason);
  const convertedCommit = source.revision === undefined ? await client.findCommit(CONVERTED) : undefined;
  const files = convertedCommit === undefined ? [] : await client.listFiles(convertedCommit);
  const wanted = found.kind === 'other-format' ? found.config : config;
  const converted = findConverted(
    files.map(({ path }) => path),
    { config: wanted, split },
  );
  if (converted.kind === 'files') return take(convertedCommit!, files, converted);
  if (found.kind === 'other-format')
    throw unknownSplit(
      dataset,
      `the files of split ${split} are not parquet, and the hub has not converted them: name them with files and format: ${listNames(found.paths)}`,
    );
  const isBetter = 'reason' in converted && files.length > 0;
  throw unknownSplit(dataset, isBetter ? converted.reason : found.reason);
}

function unknownSplit(dataset: string, reason: string): TrainerError {
  return new TrainerError('NAME_UNKNOWN', `data set ${dataset}: ${reason}`);
}

async function findByGlobs(
  { dataset }: HubSource,
  globs: readonly string[],
  commit: string,
  client: HubClient,
): Promise<HubFile[]> {
  const chosen = new Map<string, HubFile>();
  const listings = new Map<string, readonly HubFile[]>();
  for (const glob of globs) {
    const folder = globFolder(glob, SYNTAX);
    const listing = listings.get(folder) ?? (await client.listFiles(commit, folder));
    listings.set(folder, listing);
    const matches = isGlob(glob, SYNTAX) ? createGlob(glob, SYNTAX) : () => false;
    const exact = listing.filter(({ path }) => path === glob);
    const found = exact.length > 0 ? exact : listing.filter(({ path }) => matches(path));
    if (found.length === 0) {
      const paths = listing.map(({ path }) => path);
      const hint = nearestHint(glob, paths, `that folder has ${listing.length} files`);
      throw new TrainerError('NAME_UNKNOWN', `data set ${dataset}: no file matches ${glob}; ${hint}`);
    }
    for (const file of found) chosen.set(file.path, file);
  }
  return [...chosen.values()];
}

async function readCard(
  dataset: string,
  commit: string,
  files: readonly HubFile[],
  access: SourceAccess,
  signal: AbortSignal | undefined,
): Promise<HubCard> {
  const file = files.find(({ path }) => path === CARD);
  if (file === undefined) return NO_CARD;
  const storage = openHubFile(fileUrl(access.hubUrl, dataset, commit, CARD), access);
  const bytes = await storage.readRange('', 0, Math.min(file.bytes, MAX_CARD_BYTES), signal);
  return parseCard(new TextDecoder().decode(bytes));
}

function fileUrl(hubUrl: string, dataset: string, commit: string, path: string): string {
  return `${hubUrl}/datasets/${dataset}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
}
