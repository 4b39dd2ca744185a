// First module of every worker thread: makes it read TypeScript, then loads the module it was started for.
// (Node does not hand a parent's loader on to its threads.)
import { workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register();
await import(workerData.module);
