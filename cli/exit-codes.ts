/** Exit statuses of the command (docs/protocol.md, README). Scripts rely on them. */
import type { Reaction, TrainerError } from '../shared/errors.ts';

export const EXIT_USAGE = 2;
export const EXIT_DATA = 3;
export const EXIT_RUN_FAILED = 4;
/** A worker that the run does not admit: the same command would be refused again. */
const EXIT_REFUSED = 5;
/** The status that a shell reports for SIGINT. Also used for a run that saved and stopped on SIGTERM. */
export const EXIT_INTERRUPTED = 130;

const BY_REACTION: Readonly<Record<Reaction, number>> = {
  usage: EXIT_USAGE,
  data: EXIT_DATA,
  protocol: EXIT_RUN_FAILED,
  transport: EXIT_RUN_FAILED,
  run: EXIT_RUN_FAILED,
};

export function exitCodeOf(error: TrainerError): number {
  if (error.code === 'ABORTED') return EXIT_INTERRUPTED;
  if (error.code === 'JOIN_REFUSED' || error.code === 'VERSION_MISMATCH') return EXIT_REFUSED;
  return BY_REACTION[error.reaction];
}
