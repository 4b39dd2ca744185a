/** What the feed last said of a source that does not answer, as a heartbeat tells it: for how long by now. Pure. */
import type { WorkerMessage } from '../../shared/protocol/messages.ts';

type Stall = NonNullable<Extract<WorkerMessage, { kind: 'heartbeat' }>['stall']>;

export class SourceStall {
  #last: { readonly stall: Stall; readonly toldMs: number } | undefined;

  /** @param stall null: the source answers again */
  tell(nowMs: number, stall: Stall | null): void {
    this.#last = stall === null ? undefined : { stall, toldMs: nowMs };
  }

  /** Fields of a heartbeat. */
  read(nowMs: number): { readonly stall?: Stall } {
    if (this.#last === undefined) return {};
    const { stall, toldMs } = this.#last;
    return { stall: { ...stall, forMs: stall.forMs + nowMs - toldMs } };
  }
}
