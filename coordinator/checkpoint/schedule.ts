/** Decides at each step boundary whether to save. Pure. */

export interface ScheduleOptions {
  /** Save when a multiple of this many steps is reached; absent: never for this reason. */
  readonly everySteps?: number;
  /** Save when this much time has passed since the last save, ms; absent: never for this reason. */
  readonly everyMs?: number;
  /** Save after the last step of the run. */
  readonly atEnd: boolean;
}

export interface ScheduleState {
  /** Updates applied. */
  readonly step: number;
  /** The run's last step is applied, or the run stops here. */
  readonly isEnd: boolean;
  /** Step of the newest checkpoint, or the step the run was opened at where it has none. */
  readonly savedStep: number;
  /** When that was, on the clock of `nowMs`. */
  readonly savedAtMs: number;
  /** Step of the checkpoint that is being written; absent where none is. */
  readonly writingStep?: number;
  /** The part of the run that asked for a checkpoint, e.g. `the validation of step 10`; absent where none did. */
  readonly requestedBy?: string;
}

export interface ScheduleDecision {
  readonly save: boolean;
  /** For the log: why the step is saved, or why not. */
  readonly reason: string;
}

/**
 * Whether to save at this step boundary. A save that falls due while another one is written stays due at the next boundary: the caller
 * keeps no state. At the end of the run the caller waits for the writers and asks once more.
 * @param nowMs monotonic time, ms
 */
export function decideCheckpoint(nowMs: number, state: ScheduleState, options: ScheduleOptions): ScheduleDecision {
  if (state.step === state.savedStep) return { save: false, reason: `step ${state.step} is saved already` };
  const due = dueReason(nowMs, state, options);
  if (due === undefined) return { save: false, reason: 'no checkpoint is due' };
  if (state.writingStep === state.step) return { save: false, reason: `step ${state.step} is being written` };
  if (state.writingStep !== undefined)
    return { save: false, reason: `${due}, but the checkpoint of step ${state.writingStep} is still being written` };
  return { save: true, reason: due };
}

/** Why a save is due, strongest reason first; undefined where none is. */
function dueReason(nowMs: number, state: ScheduleState, options: ScheduleOptions): string | undefined {
  const { everySteps, everyMs, atEnd } = options;
  if (state.requestedBy !== undefined) return `${state.requestedBy} asked for it`;
  if (state.isEnd && atEnd) return `step ${state.step} is the end of the run`;
  if (everySteps !== undefined) {
    const multiple = Math.floor(state.step / everySteps) * everySteps;
    if (multiple > state.savedStep)
      return multiple === state.step
        ? `step ${state.step} is a multiple of ${everySteps}`
        : `step ${multiple}, a multiple of ${everySteps}, has passed`;
  }
  const waitedMs = nowMs - state.savedAtMs;
  if (everyMs !== undefined && waitedMs >= everyMs)
    return `${Math.floor(waitedMs / 1000)} s since the last one, at least every ${everyMs / 1000} s`;
  return undefined;
}
