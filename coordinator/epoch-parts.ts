/** The parts of an epoch, made once and put together: what outlives its generations. */
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import type { Logger } from '../shared/logger.ts';
import type { CheckpointStore } from './checkpoint/checkpoint-store.ts';
import { Committer } from './step/committer.ts';
import { createDealer } from './deal/step-dealer.ts';
import { UncommittedDeals } from './deal/uncommitted-deals.ts';
import type { PastGeneration } from './membership/generation.ts';
import type { Journal } from './journal/journal.ts';
import { createStepRecorder, type StepSink } from './step/record-step.ts';
import { NonFinitePolicy } from './step/non-finite.ts';
import type { StepSummary } from './step/open-steps.ts';
import { Roster } from './membership/roster.ts';
import { Saver } from './checkpoint/saver.ts';
import { StepSettlement } from './step/step-settlement.ts';
import type { StartingPoint } from './resume/starting-point.ts';
import { Steering } from './steering/steering.ts';
import { WorkerSpeeds } from './health/lane-speeds.ts';

/** What an epoch is made of, whoever asks for its parts. */
export interface EpochInit {
  readonly config: RunConfig;
  readonly runId: string;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** The generation that trained last before this epoch goes on where it was; undefined where it begins from a checkpoint. */
  readonly before: PastGeneration | undefined;
  readonly mixture: PreparedMixture;
  readonly checkpoints: CheckpointStore;
  readonly journal: Pick<Journal, 'append' | 'state'>;
  readonly ledger: StepSink;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface EpochHooks {
  readonly engineFingerprint: () => string;
  readonly onSkip: (step: number) => void;
  readonly onCommit: (summary: StepSummary, tokensPerSecond: number) => void;
}

export interface EpochParts {
  readonly roster: Roster;
  readonly deals: UncommittedDeals;
  readonly committer: Committer;
  readonly settling: StepSettlement;
  readonly saver: Saver;
  readonly steering: Steering;
  readonly nonFinite: NonFinitePolicy;
  readonly speeds: WorkerSpeeds;
}

/** @throws CONFIG_INVALID, MIXTURE_MISMATCH for a plan that cannot be gone on with */
export function createEpochParts(init: EpochInit, { engineFingerprint, onSkip, onCommit }: EpochHooks): EpochParts {
  const { config, runId, epoch, start, before, mixture, checkpoints, journal, ledger, clock, log } = init;
  const { sizes, tasks, taskNames } = mixture;
  const { step } = start;
  const dealer = createDealer(init, start);
  const deals = new UncommittedDeals(dealer);
  const steering = new Steering({ config, sizes, tasks, dealer, journal, epoch, log });
  const committer = new Committer({
    ...{ config, epoch, step, deals, journal, clock, log },
    cursor: dealer.cursor,
    record: createStepRecorder(ledger, tasks),
    onSkip,
    onCommit: (summary, tokensPerSecond, cursor) => {
      onCommit(summary, tokensPerSecond);
      steering.commit(summary, cursor);
    },
  });
  const roster = new Roster({
    ...{ config, runId, epoch, mixture, journal, clock, log },
    heldSince: journal.state.heldSince,
    distrusted: journal.state.distrusted.keys(),
    committedStep: () => committer.step,
    onLateReport: (worker, report) => settling.receiveLate(worker, report),
    onLateSaved: (worker, message) => saver.keep(worker, message),
  });
  const { goodUntil } = journal.state;
  const settling: StepSettlement = new StepSettlement({ config, taskNames, deals, committer, roster, log, before, goodUntil });
  const savedStep = start.checkpoint?.step ?? 0;
  const saver = new Saver({ config, epoch, clock, log, checkpoints, engineFingerprint, savedStep });
  const nonFinite = new NonFinitePolicy(config.training.onNonFinite);
  return { roster, deals, committer, settling, saver, steering, nonFinite, speeds: new WorkerSpeeds() };
}
