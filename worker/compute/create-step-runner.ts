/** The runner of a generation's steps, from what the coordinator said of it and the memory that the link thread gave it. */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import type { Member } from '../../shared/protocol/messages.ts';
import { Arena, type ArenaLayout } from '../collective/arena.ts';
import type { Engine } from '../engine/engine.ts';
import type { Feed } from '../feed/feed.ts';
import { microbatchesPerLane } from '../feed/start-feed.ts';
import { planGradient } from './plan-gradient.ts';
import type { ProgressCell } from './progress-cell.ts';
import { StepRunner, type Reducer } from './step-runner.ts';

export interface CreateStepRunnerInit {
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly feed: Pick<Feed, 'next' | 'release'>;
  readonly memory: WebAssembly.Memory;
  readonly layout: ArenaLayout;
  readonly rank: number;
  readonly members: readonly Member[];
  readonly reducer: Reducer;
  readonly progress: ProgressCell;
  readonly clock: Clock;
}

export function createStepRunner(init: CreateStepRunnerInit): StepRunner {
  const { config, memory, layout, members, ...rest } = init;
  return new StepRunner({
    ...rest,
    arena: new Arena(layout, memory),
    plan: planGradient(config),
    laneTree: planLaneTree(
      config.training.numLanes,
      members.map(({ lanes }) => lanes),
    ),
    microbatchesPerLane: microbatchesPerLane(config),
  });
}
