/** What the feed last said of a source that does not answer, as a heartbeat tells it: for how long by now. Pure. */
import type { WorkerStall } from '../../shared/protocol/messages.ts';

export class SourceStall {
  #last: { readonly stall: WorkerStall; readonly toldMs: number } | undefined;

  /** @param stall null: the source answers again */
  tell(nowMs: number, stall: WorkerStall | null): void {
    this.#last = stall === null ? undefined : { stall, toldMs: nowMs };
  }

  /** Fields of a heartbeat. */
  read(nowMs: number): { readonly stall?: WorkerStall } {
    if (this.#last === undefined) return {};
    const { stall, toldMs } = this.#last;
    return { stall: { ...stall, forMs: stall.forMs + nowMs - toldMs } };
  }
}
