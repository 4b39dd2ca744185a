/** One task while it is being prepared: which units are there, its merge, its report. */
import { join } from 'node:path';
import { assertInvariant } from '../../shared/errors.ts';
import { MANIFEST_FILE, serializeTaskManifest } from './manifest.ts';
import { mergeTask } from './merge-task.ts';
import type { PreparedTaskReport } from './prepare-options.ts';
import type { TaskPlan } from './plan-tasks.ts';
import { publishFile } from './publish-file.ts';
import type { TaskSurvey } from './survey-tasks.ts';
import type { UnitRecord } from './unit-record.ts';

export class TaskRun {
  readonly plan: TaskPlan;
  readonly #records: (UnitRecord | undefined)[];
  #numKnown = 0;
  #reason: string | undefined;
  #unitsMade = 0;

  constructor({ plan, change }: TaskSurvey) {
    this.plan = plan;
    this.#records = plan.units.map(() => undefined);
    this.#reason = change;
  }

  /** Units that are not known to be there. */
  get missing(): number[] {
    return [...this.#records.keys()].filter((number) => this.#records[number] === undefined);
  }

  get isComplete(): boolean {
    return this.#numKnown === this.#records.length;
  }

  /** @param reason why one that was there was not kept */
  addUnit(record: UnitRecord, isMade: boolean, reason?: string): void {
    if (this.#records[record.number] === undefined) this.#numKnown += 1;
    this.#records[record.number] = record;
    if (isMade) this.#unitsMade += 1;
    this.#reason ??= reason;
  }

  /** Checks the units and writes the manifest. All must be there. @throws SOURCE_MALFORMED, DISK_FULL, PATH_UNUSABLE */
  async merge(outDir: string, tokenBytes: 2 | 4, badRowThreshold: number): Promise<PreparedTaskReport> {
    const { name, identity, declared, preparable, units } = this.plan;
    const records = this.#records.filter((record) => record !== undefined);
    assertInvariant(records.length === units.length, `task ${name}: all ${units.length} units are there`);
    const segmentLength = preparable.kind === 'denoising' ? preparable.segmentLength : 0;
    const manifest = mergeTask({ name, identity, declared, segmentLength, tokenBytes, records, badRowThreshold });
    await publishFile(join(outDir, name), MANIFEST_FILE, serializeTaskManifest(manifest));
    return {
      name,
      outcome: this.#unitsMade > 0 ? 'prepared' : 'reused',
      unitsMade: this.#unitsMade,
      unitsKept: units.length - this.#unitsMade,
      ...(this.#reason === undefined || this.#unitsMade === 0 ? {} : { reason: this.#reason }),
      manifest,
    };
  }
}
