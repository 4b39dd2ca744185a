// Registers tsx in every process and thread, then loads the probe (like shared/thread/bootstrap.mjs).
import { register } from 'tsx/esm/api';

register();
await import('./overlap-probe.ts');
