/** What preparing would do: sizes, units, room. Nothing is written; servers are asked for names and sizes. */
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { tokenBytesOf } from './ensure-unit.ts';
import { freeRoom } from './estimate-room.ts';
import { planTasks } from './plan-tasks.ts';
import { listPreparables } from './preparable-task.ts';
import { planInitOf } from './prepare-mixture.ts';
import { completeOptions, type PrepareInit } from './prepare-options.ts';
import { dealUnits, leftToMake } from './prepare-work.ts';
import { surveyTask } from './survey-tasks.ts';

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
  const { mixture, featureLengths, outDir } = settings;
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const plans = await planTasks(listPreparables(mixture, featureLengths), planInitOf(settings, tokenizer, false));
  const surveys = [];
  for (const plan of plans) surveys.push(await surveyTask(outDir, plan));
  const deal = dealUnits(surveys, settings);
  const tasks = surveys.map((survey): TaskOutlook => {
    const { plan, change } = survey;
    const { source, units } = plan;
    const { numUnits: unitsToMake, bytes: bytesToRead, roomBytes } = leftToMake(survey, deal, tokenBytesOf(tokenizer));
    return {
      name: plan.name,
      format: source.format,
      numFiles: source.files.length,
      ...(source.origin === undefined ? {} : { revision: source.origin.revision }),
      sourceBytes: source.files.reduce((sum, { bytes }) => sum + bytes, 0),
      numUnits: units.length,
      unitsToMake,
      bytesToRead,
      roomBytes,
      ...(change === undefined ? {} : { reason: change }),
    };
  });
  const roomBytes = tasks.reduce((sum, task) => sum + task.roomBytes, 0);
  return { folder: outDir, tasks, roomBytes, freeBytes: await freeRoom(outDir) };
}
