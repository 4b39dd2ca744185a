/** A line for each checkpoint of a run folder, for `exmix checkpoint list`. */
import { listCheckpointFolders, readRunRecord } from './read.ts';
import { describeProblem, verifyCheckpoint } from './verify.ts';

export interface CheckpointSummary {
  readonly step: number;
  readonly path: string;
  /** Of all files. */
  readonly bytes: number;
  /** ISO 8601, UTC; null if the record cannot be read. */
  readonly savedAt: string | null;
  readonly paramDigest: string | null;
  /** Whether the manifest is valid and every file has its size; hashes are not compared. */
  readonly isWhole: boolean;
  /** Sentences; empty if it is whole. */
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
