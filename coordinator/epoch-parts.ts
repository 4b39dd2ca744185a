/** Makes the parts that live for one epoch and serve all its generations. */
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { Runtime } from '../shared/runtime.ts';
import type { CheckpointStore } from './checkpoint/checkpoint-store.ts';
import { Saver } from './checkpoint/saver.ts';
import { UncommittedDeals } from './deal/uncommitted-deals.ts';
import { createDealer } from './deal/step-dealer.ts';
import type { StepParts } from './generation/training.ts';
import { FlatLossWatch } from './health/flat-loss.ts';
import { WorkerSpeeds } from './health/lane-speeds.ts';
import type { Journal } from './journal/journal.ts';
import type { PastGeneration } from './membership/generation.ts';
import { Roster } from './membership/roster.ts';
import type { StartingPoint } from './resume/starting-point.ts';
import type { DiskSpace } from './run-folder/disk-space.ts';
import type { FolderProbe } from './run-folder/folder-probe.ts';
import { RunSummary } from './run-summary.ts';
import { Steering } from './steering/steering.ts';
import { Committer } from './step/committer.ts';
import { NonFinitePolicy } from './step/non-finite.ts';
import { createStepRecorder, type StepSink } from './step/record-step.ts';
import { StepSettlement } from './step/step-settlement.ts';
import { Validator, type ValidationParts } from './validation/validator.ts';

export interface EpochInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** What is evaluated while the run trains; undefined: nothing. */
  readonly validation?: ValidationParts | undefined;
  readonly opening: EpochOpening;
  readonly stores: RunStores;
  readonly runtime: Runtime;
}

/** The epoch's identity, and the state it starts from. */
export interface EpochOpening {
  readonly runId: string;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** The last generation before this epoch, whose members may still hold the state; undefined: start from the checkpoint. */
  readonly before: PastGeneration | undefined;
}

/** Everything the coordinator writes to disk. */
export interface RunStores {
  readonly runFolder: string;
  readonly journal: Pick<Journal, 'append' | 'state'>;
  readonly ledger: StepSink;
  readonly checkpoints: CheckpointStore;
  /** Pauses the run while the disk is full; undefined: a full disk ends the run. */
  readonly diskSpace: DiskSpace | undefined;
  /** Undefined where coordinator and workers share no files: in tests. */
  readonly probe?: FolderProbe | undefined;
}

export interface EpochParts {
  readonly roster: Roster;
  readonly steps: StepParts;
  readonly saver: Saver;
  readonly validator: Validator;
  readonly steering: Steering;
  readonly speeds: WorkerSpeeds;
  readonly summary: RunSummary;
}

/** @throws CONFIG_INVALID, MIXTURE_MISMATCH where the plan cannot be resumed */
export function createEpochParts({ config, mixture, validation, opening, stores, runtime }: EpochInit): EpochParts {
  const { runId, epoch, start, before } = opening;
  const { runFolder, journal, ledger, checkpoints, probe } = stores;
  const { clock, log } = runtime;
  const { sizes, tasks, taskNames } = mixture;
  const { goodUntil, heldSince, distrusted } = journal.state;
  const dealer = createDealer({ config, mixture }, start);
  const deals = new UncommittedDeals(dealer);
  const steering = new Steering({ config, sizes, tasks, dealer, journal, epoch, log });
  const summary = new RunSummary();
  const committer = new Committer({
    ...{ config, epoch, step: start.step, cursor: dealer.cursor, deals, journal, clock, log },
    record: createStepRecorder(ledger, tasks),
    observers: [summary, steering, new FlatLossWatch(config.model.vocabSize, log)],
  });
  const roster: Roster = new Roster({
    ...{ config, runId, epoch, mixture, journal, heldSince, clock, log },
    distrusted: distrusted.keys(),
    probe: probe && {
      // Without a checkpoint a worker reads the folder of `init`.
      request: () => probe.request(saver.newest?.path ?? config.init?.folder),
      findFault: (answer) => probe.findFault(answer),
      onFault: (worker, fault) => saver.leaveOut(worker, new TrainerError('PATH_UNUSABLE', fault)),
    },
    engineBefore: start.checkpoint?.engineFingerprint,
    committedStep: () => committer.step,
    onLateReport: (worker, report) => settlement.receiveLate(worker, report),
    onLateSaved: (worker, message) => saver.keep(worker, message),
  });
  const settlement = new StepSettlement({ config, taskNames, deals, committer, roster, log, before, goodUntil });
  const saver = new Saver({ config, epoch, checkpoints, journal, runFolder, newest: start.checkpoint, runtime });
  const nonFinite = new NonFinitePolicy(config.training.onNonFinite);
  const steps = { deals, settlement, committer, nonFinite };
  const validator = new Validator({ config, epoch, validation, journal, runtime });
  return { roster, steps, saver, validator, steering, speeds: new WorkerSpeeds(), summary };
}
