// First module of a process that makes units: enables TypeScript, then loads unit-process.ts.
import { register } from 'tsx/esm/api';

register();
await import('./unit-process.ts');
