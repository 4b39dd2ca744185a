/** A small mixture with many formats, for tests: four tasks and denoising text, with the golden vocabulary. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { loadMixture } from '../tasks/load-mixture.ts';
import type { Mixture } from '../tasks/task.ts';

const TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece/spiece.model', import.meta.url));
const WORDS =
  'a class function returns the value of an object when import statement list string method is called with name'.split(
    ' ',
  );

const YAML = `name: small
tokenizer: spiece.model
tasks:
  - { name: plain, family: A, source: { path: plain.jsonl, format: jsonl }, validation: { cut: none }, inputs: "say: {q}", targets: "{a}" }
  - { name: zipped, family: A, source: { path: [z1.jsonl.gz, z2.jsonl.gz], format: jsonl }, validation: { cut: none }, inputs: "{q}", targets: "{a}" }
  - { name: table, family: B, source: { path: table.csv, format: csv }, validation: { cut: none }, inputs: "is it {x}?", targets: "{label}", labels: ["no", "yes"] }
  - { name: tabbed, family: B, source: { path: tabbed.tsv.gz, format: tsv, quotes: false }, validation: { cut: none }, inputs: "{x}", targets: "{y}" }
denoising: { name: denoise, source: { path: text.txt.gz, format: text } }
`;

/** Text number `seed`, with 1 to `most` words. */
export function sentence(seed: number, most = 12): string {
  const length = 1 + ((seed * 7919) % most);
  return Array.from({ length }, (_, i) => WORDS[(seed * 31 + i * 17 + ((seed * i) % 5)) % WORDS.length]).join(' ');
}

/**
 * Writes sources, tokenizer and mixture.yaml to `folder`. @param numRows rows of each task, and documents of the text
 */
export function writeSmallMixture(folder: string, numRows = 60): Mixture {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, content: string) =>
    writeFileSync(join(folder, name), name.endsWith('.gz') ? gzipSync(content) : content);
  const rows = Array.from({ length: numRows }, (_, i) => i);
  const jsonl = (from: number) =>
    rows.map((i) => `${JSON.stringify({ q: sentence(from + i), a: sentence(from + 3 * i, 4) })}\n`).join('');
  write('plain.jsonl', jsonl(0));
  write('z1.jsonl.gz', jsonl(1000));
  write('z2.jsonl.gz', jsonl(2000));
  write('table.csv', `x,label\n${rows.map((i) => `"${sentence(i)}, ""so""",${i % 2}\n`).join('')}`);
  write('tabbed.tsv.gz', `x\ty\n${rows.map((i) => `"${sentence(i)}\t${sentence(i + 5, 3)}\n`).join('')}`);
  write('text.txt.gz', rows.map((i) => `${sentence(i, 40)}\n`).join(''));
  copyFileSync(TOKENIZER, join(folder, 'spiece.model'));
  write('mixture.yaml', YAML);
  return loadMixture(join(folder, 'mixture.yaml'));
}
