/** A split of a data set on a hub → its files at one commit. */
import { nameLocation } from '../../../shared/storage/location.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { nearestHint } from '../../../shared/nearest-names.ts';
import type { HubSource } from '../../tasks/task.ts';
import { createGlob, globFolder, isGlob } from '../glob.ts';
import type { HubOrigin, ResolvedSource } from '../resolved-source.ts';
import type { SourceAccess } from '../source-access.ts';
import { openHubFile } from './hub-cache.ts';
import { HubClient, type HubFile } from './hub-client.ts';
import {
  chooseByCard,
  chooseByName,
  describeSplits,
  splitNameOf,
  splitsOfCard,
  type CardSplit,
  type SplitName,
} from './hub-splits.ts';

const CONVERTED = 'refs/convert/parquet';
const CARD = 'README.md';
/** A larger README is not read, bytes. */
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
  const { commit, files } = await findFiles(source, client, access, signal);
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
  };
}

interface Found {
  readonly commit: string;
  readonly files: readonly HubFile[];
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
  const own = all.filter(({ path }) => path.endsWith('.parquet'));
  const paths = own.map(({ path }) => path);
  const card = paths.length === 0 ? [] : await readCard(dataset, commit, all, access, signal);
  const byCard = chooseByCard(paths, card, { config, split });
  const chosen = new Set(byCard.length > 0 ? byCard : chooseByName(paths, { config, split }));
  if (chosen.size > 0) return { commit, files: own.filter(({ path }) => chosen.has(path)) };
  const known: SplitName[] = [...card, ...splitNamesOf(paths)];
  const convertedCommit = source.revision === undefined ? await client.findCommit(CONVERTED) : undefined;
  if (convertedCommit !== undefined) {
    const converted = await client.listFiles(convertedCommit);
    const convertedPaths = converted.map(({ path }) => path);
    const ofSplit = new Set(chooseByName(convertedPaths, { config, split }));
    if (ofSplit.size > 0) return { commit: convertedCommit, files: converted.filter(({ path }) => ofSplit.has(path)) };
    known.push(...splitNamesOf(convertedPaths));
  }
  throw new TrainerError('NAME_UNKNOWN', `data set ${dataset}: ${describeSplits(known, { config, split })}`);
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
    const folder = globFolder(glob);
    const listing = listings.get(folder) ?? (await client.listFiles(commit, folder));
    listings.set(folder, listing);
    const matches = isGlob(glob) ? createGlob(glob) : (path: string) => path === glob;
    const found = listing.filter(({ path }) => matches(path));
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
): Promise<CardSplit[]> {
  const file = files.find(({ path }) => path === CARD);
  if (file === undefined || file.bytes > MAX_CARD_BYTES) return [];
  const storage = openHubFile(fileUrl(access.hubUrl, dataset, commit, CARD), access);
  const bytes = await storage.readRange('', 0, file.bytes, signal);
  return splitsOfCard(new TextDecoder().decode(bytes));
}

function splitNamesOf(paths: readonly string[]): SplitName[] {
  return paths.map(splitNameOf).filter((place) => place !== undefined);
}

function fileUrl(hubUrl: string, dataset: string, commit: string, path: string): string {
  return `${hubUrl}/datasets/${dataset}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
}
