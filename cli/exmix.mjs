#!/usr/bin/env node
// The exmix command. In a checkout it runs the build of the sources as they are now, and makes it first where it is missing
// (deploy/package); an installed package has its build in dist/package.
import { existsSync } from 'node:fs';

// As in exmix.ts, which is not there yet: SIGUSR1 must not open Node's inspector.
process.on('SIGUSR1', () => {
  if (process.listenerCount('SIGUSR1') === 1) process.exit(130);
});
process.setSourceMapsEnabled(true); // stack traces show lines of TypeScript
const builder = new URL('../deploy/package/current-build.mjs', import.meta.url);
const build = existsSync(builder)
  ? await (await import(builder.href)).currentBuild()
  : new URL('../dist/package/', import.meta.url);
await import(new URL('cli/exmix.js', build).href);
