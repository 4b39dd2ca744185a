/** What preparing would do: sizes, units, room. Nothing is written; servers are asked for names and sizes. */
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { tokenBytesOf } from './ensure-unit.ts';
import { estimateRoom, freeRoom } from './estimate-room.ts';
import { planTasks } from './plan-tasks.ts';
import { listPreparables } from './preparable-task.ts';
import { planInitOf } from './prepare-mixture.ts';
import { completeOptions, type PrepareInit } from './prepare-options.ts';
import { surveyTask } from './survey-tasks.ts';
import { isDealt } from './unit-queue.ts';

export interface TaskOutlook {
  readonly name: string;
  readonly format: string;
  readonly numFiles: number;
  /** Commit of the hub, where the source is there. */
  readonly revision?: string;
  readonly sourceBytes: number;
  readonly numUnits: number;
  /** Of all units, those that this process would make. */
  readonly unitsToMake: number;
  readonly bytesToRead: number;
  /** Room that they take, about. */
  readonly roomBytes: number;
  /** Why what is there would not be kept. */
  readonly reason?: string;
}

export interface PrepareOutlook {
  readonly folder: string;
  readonly tasks: readonly TaskOutlook[];
  readonly roomBytes: number;
  readonly freeBytes: number;
}

/** @throws what prepareMixture throws before it makes anything */
export async function lookAhead(init: PrepareInit): Promise<PrepareOutlook> {
  const settings = completeOptions(init);
  const { mixture, featureLengths, outDir, shard, mergeOnly } = settings;
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const plans = await planTasks(listPreparables(mixture, featureLengths), planInitOf(settings, tokenizer, false));
  const tasks: TaskOutlook[] = [];
  let position = 0;
  for (const plan of plans) {
    const { isThere, change } = await surveyTask(outDir, plan);
    const { source, units } = plan;
    const toMake = units.filter((_, number) => {
      const isOwn = mergeOnly !== true && (shard === undefined || isDealt(position + number, shard));
      return isOwn && isThere[number] !== true;
    });
    position += units.length;
    const bytesToRead = toMake.reduce((sum, { bytes }) => sum + bytes, 0);
    tasks.push({
      name: plan.name,
      format: source.format,
      numFiles: source.files.length,
      ...(source.origin === undefined ? {} : { revision: source.origin.revision }),
      sourceBytes: source.files.reduce((sum, { bytes }) => sum + bytes, 0),
      numUnits: units.length,
      unitsToMake: toMake.length,
      bytesToRead,
      roomBytes: estimateRoom(source, bytesToRead, tokenBytesOf(tokenizer)),
      ...(change === undefined ? {} : { reason: change }),
    });
  }
  const roomBytes = tasks.reduce((sum, task) => sum + task.roomBytes, 0);
  return { folder: outDir, tasks, roomBytes, freeBytes: await freeRoom(outDir) };
}
