// Makes every process and thread read TypeScript, then loads the probe (as shared/thread/bootstrap.mjs does).
import { register } from 'tsx/esm/api';

register();
await import('./overlap-probe.ts');
