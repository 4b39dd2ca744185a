/**
 * kernels.wat → kernels-wasm.ts (base64 of the module, committed). Run after changing the .wat:
 * `node --import tsx worker/arena/generate-kernels.ts`. A test compares the two.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import createWabt from 'wabt';

/** The text of kernels-wasm.ts for the present kernels.wat. */
export async function generateKernels(): Promise<string> {
  const wabt = await createWabt();
  const source = readFileSync(new URL('./kernels.wat', import.meta.url), 'utf8');
  const module = wabt.parseWat('kernels.wat', source, { simd: true, threads: true });
  const base64 = Buffer.from(module.toBinary({}).buffer).toString('base64');
  module.destroy();
  const lines = base64.match(/.{1,110}/g) ?? [];
  return [
    '/** kernels.wat assembled; written by generate-kernels.ts, never by hand. */',
    'export const KERNELS_BASE64 = [',
    ...lines.map((line) => `  '${line}',`),
    `].join('');`,
    '',
  ].join('\n');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  writeFileSync(new URL('./kernels-wasm.ts', import.meta.url), await generateKernels());
