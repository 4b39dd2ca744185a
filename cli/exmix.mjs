#!/usr/bin/env node
// The exmix command. TypeScript is run as it is: tsx strips the types while loading, so there is no build step.
import { register } from 'tsx/esm/api';

register();
const { main } = await import('./main.ts');
process.exitCode = await main(process.argv.slice(2));
