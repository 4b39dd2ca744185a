/** A dry run: sizes, units and disk space. Nothing is written; servers are asked for names and sizes. */
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { tokenBytesOf } from './ensure-unit.ts';
import { freeRoom } from './estimate-room.ts';
import { planTasks } from './plan-tasks.ts';
import { listPreparables } from './preparable-task.ts';
import { planInitOf } from './prepare-mixture.ts';
import { completeOptions, type PrepareInit } from './prepare-options.ts';
import { assignUnits, remainingUnits } from './prepare-work.ts';
import { surveyTask } from './survey-tasks.ts';

export interface TaskOutlook {
  readonly name: string;
  readonly format: string;
  readonly numFiles: number;
  /** Commit on the hub, if the source is there. */
  readonly revision?: string;
  readonly sourceBytes: number;
  readonly numUnits: number;
  /** Units that this process would make. */
  readonly unitsToMake: number;
  readonly bytesToRead: number;
  /** About how many bytes on disk they need. */
  readonly roomBytes: number;
  /** Why existing units would not be kept. */
  readonly reason?: string;
}

export interface PrepareOutlook {
  readonly folder: string;
  readonly tasks: readonly TaskOutlook[];
  readonly roomBytes: number;
  readonly freeBytes: number;
}

/** @throws the same as prepareMixture before it makes a unit */
export async function estimatePreparation(init: PrepareInit): Promise<PrepareOutlook> {
  const settings = completeOptions(init);
  const { mixture, featureLengths, outDir } = settings;
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const plans = await planTasks(listPreparables(mixture, featureLengths), planInitOf(settings, tokenizer, false));
  const surveys = [];
  for (const plan of plans) surveys.push(await surveyTask(outDir, plan));
  const assignment = assignUnits(surveys, settings);
  const tasks = surveys.map((survey): TaskOutlook => {
    const { plan, change } = survey;
    const { source, units } = plan;
    const {
      numUnits: unitsToMake,
      bytes: bytesToRead,
      roomBytes,
    } = remainingUnits(survey, assignment, tokenBytesOf(tokenizer));
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
