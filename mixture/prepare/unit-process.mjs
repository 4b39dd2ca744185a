// First module of a process that makes units: makes it read TypeScript, then goes on in unit-process.ts.
import { register } from 'tsx/esm/api';

register();
await import('./unit-process.ts');
