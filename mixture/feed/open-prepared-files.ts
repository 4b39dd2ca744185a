/** Location of a prepared mixture → its files. */
import { join } from 'node:path';
import { exmixHome } from '../../shared/exmix-home.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import { LocalFiles } from './local-files.ts';
import type { PreparedFiles } from './prepared-files.ts';
import { RemoteFiles } from './remote-files.ts';
import { SourceWatch, type SourceNotice } from './source-watch.ts';

export interface PreparedAccess {
  /** Remote: files that are known by their hash are kept here; may be shared by any number of processes. */
  readonly cacheFolder?: string;
  /** Remote: without any answer for this long reading fails, ms. */
  readonly sourceTimeoutMs?: number;
  /** Remote: longest waits before a failed read is tried again, ms. */
  readonly firstWaitMs?: number;
  readonly maxWaitMs?: number;
  /** Remote: a read under way for longer than this is told, ms. */
  readonly stalledAfterMs?: number;
  /** Remote: hears that the source does not answer, and that it answers again. */
  readonly onSource?: (notice: SourceNotice) => void;
}

/** Default of `feed.sourceTimeoutMs`, ms. */
const SOURCE_TIMEOUT_MS = 600_000;
/** A source that comes back is asked again within this time, ms. */
const MAX_WAIT_MS = 5_000;
const FIRST_WAIT_MS = 250;
/** A read of one block that brings nothing for this long is tried again, ms. */
const IDLE_MS = 10_000;

/** @param location a folder, or an http:, https: or s3: URL of one @throws CONFIG_INVALID for another scheme */
export function openPreparedFiles(location: string, access: PreparedAccess = {}): PreparedFiles {
  if (isLocalLocation(location)) return new LocalFiles(location);
  const { onSource, stalledAfterMs, sourceTimeoutMs = SOURCE_TIMEOUT_MS } = access;
  const watch = new SourceWatch({
    ...(stalledAfterMs === undefined ? {} : { stalledAfterMs }),
    onNotice: onSource ?? (() => undefined),
  });
  const storage = openStorage(location, {
    retry: {
      deadlineMs: sourceTimeoutMs,
      idleMs: Math.min(IDLE_MS, sourceTimeoutMs),
      firstWaitMs: access.firstWaitMs ?? FIRST_WAIT_MS,
      maxWaitMs: access.maxWaitMs ?? MAX_WAIT_MS,
    },
    onRetry: (notice) => watch.retried(notice),
  });
  return new RemoteFiles({ storage, watch, cacheFolder: access.cacheFolder ?? join(exmixHome(), 'remote') });
}
