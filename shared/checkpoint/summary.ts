/** What a person wants to see of the checkpoints in a folder: one line each. */
import { listCheckpointFolders, readRunRecord } from './read.ts';
import { describeProblem, verifyCheckpoint } from './verify.ts';

export interface CheckpointSummary {
  readonly step: number;
  readonly path: string;
  /** Of all files. */
  readonly bytes: number;
  /** ISO 8601, UTC; null where the record cannot be read. */
  readonly savedAt: string | null;
  readonly paramDigest: string | null;
  /** Whether the manifest is sound and every file is there with its size; hashes are `verifyCheckpoint`'s business. */
  readonly isWhole: boolean;
  /** Sentences; empty where it is whole. */
  readonly problems: readonly string[];
}

/** All checkpoints of a run, ascending by step; reads no tensors. @throws PATH_UNUSABLE, ABORTED */
export async function summariseCheckpoints(runFolder: string, signal?: AbortSignal): Promise<CheckpointSummary[]> {
  const summaries: CheckpointSummary[] = [];
  for (const { path, step } of await listCheckpointFolders(runFolder)) {
    const report = await verifyCheckpoint(path, { depth: 'size', ...(signal === undefined ? {} : { signal }) });
    const isWhole = report.problems.length === 0;
    const run = isWhole ? await readRunRecord(path) : undefined;
    summaries.push({
      step,
      path,
      bytes: report.bytes,
      savedAt: run?.savedAt ?? null,
      paramDigest: run?.paramDigest ?? null,
      isWhole,
      problems: report.problems.map(describeProblem),
    });
  }
  return summaries;
}
