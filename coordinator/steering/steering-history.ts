/**
 * The mixture report of a run that is not training, from its folder: shares come from the newest checkpoint, losses from the log.
 * Assumes that no coordinator writes to the folder meanwhile; otherwise the losses may be a step or two newer than the shares.
 */
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { READ_ONLY, toStorageError } from '../../shared/atomic-file.ts';
import { findLatestCheckpoint, readRunRecord } from '../../shared/checkpoint/read.ts';
import { TrainerError } from '../../shared/errors.ts';
import { runPaths } from '../run-folder/run-folder.ts';
import { readCursor } from '../resume/starting-point.ts';
import { reportMixture, type MixtureReport, type StepLosses } from './steering-report.ts';

/** Block of the log that is read at a time, B. */
const BLOCK_BYTES = 1024 * 1024;
/** Bound of the part of the log that is searched, B: 1,000 steps of 108 tasks are a tenth of it. */
const MAX_LOG_BYTES = 128 * 1024 * 1024;

const perTask = z.record(z.string(), z.number());
const stepRecordSchema = z.object({
  msg: z.literal('step committed'),
  step: z.int(),
  taskLoss: perTask,
  taskTokens: perTask,
});

/**
 * @param last losses are means over this many steps
 * @throws PATH_UNUSABLE where the folder has no checkpoint, CHECKPOINT_CORRUPT
 */
export async function readMixtureReport(runFolder: string, last: number): Promise<MixtureReport> {
  const { latest } = await findLatestCheckpoint(runFolder);
  if (latest === undefined)
    throw new TrainerError(
      'PATH_UNUSABLE',
      `${runFolder}: expected a run that trains, or a checkpoint, found neither; "exmix status" says how the run ended`,
    );
  const run = await readRunRecord(latest.path);
  return reportMixture(
    run.step,
    readCursor(latest.path, run),
    await readLastSteps(runPaths(runFolder).log, run.step, last),
  );
}

/** The last `count` committed steps of a log up to `step`, ascending. A step that was trained again counts once, by its last commit. */
async function readLastSteps(path: string, step: number, count: number): Promise<StepLosses[]> {
  const found = new Map<number, StepLosses>();
  for await (const line of readLinesBackwards(path)) {
    if (!line.includes('"step committed"')) continue;
    const record = stepRecordSchema.safeParse(parseJson(line));
    if (!record.success || record.data.step > step || found.has(record.data.step)) continue;
    const { taskLoss, taskTokens } = record.data;
    found.set(record.data.step, { step: record.data.step, taskLoss, taskTokens });
    if (found.size === count) break;
  }
  return [...found.values()].sort((a, b) => a.step - b.step);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // the last line of a log may be torn
  }
}

/** Lines of a file from its end. */
async function* readLinesBackwards(path: string): AsyncGenerator<string> {
  const file = await open(path, READ_ONLY).catch((error: unknown) => {
    throw toStorageError(error, 'read', path);
  });
  try {
    const { size } = await file.stat();
    const least = Math.max(0, size - MAX_LOG_BYTES);
    let rest: Buffer = Buffer.alloc(0);
    for (let end = size; end > least;) {
      const start = Math.max(least, end - BLOCK_BYTES);
      const block = Buffer.alloc(end - start);
      await file.read(block, 0, block.length, start);
      const lines = splitLines(Buffer.concat([block, rest]));
      // The first line of a block may begin in the block before it.
      rest = start === 0 ? Buffer.alloc(0) : lines.shift()!;
      for (const line of lines.reverse()) yield line.toString('utf8');
      end = start;
    }
  } finally {
    await file.close();
  }
}

function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return [...lines, bytes.subarray(start)];
}
