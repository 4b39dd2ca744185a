/** What nearly every part needs from its process. Tests give a clock of their own. */
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';

export interface Runtime {
  readonly clock: Clock;
  readonly log: Logger;
}
