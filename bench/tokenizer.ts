/**
 * Measures tokens per second of `encodeInto` on one core: the median of several runs over the same texts.
 *
 * node --import tsx bench/tokenizer.ts [--model FILE] [--text FILE] [--runs 7]
 * Texts are the lines of --text, or the English lines of golden/sentencepiece joined to paragraphs.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadTokenizer } from '../mixture/tokenizer/tokenizer.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'golden/sentencepiece/spiece.model' },
    text: { type: 'string' },
    runs: { type: 'string', default: '7' },
  },
});

/** Each run encodes at least this much text. */
const RUN_CHARS = 8_000_000;

function goldenTexts(): string[] {
  const lines = readFileSync('golden/sentencepiece/oracle.jsonl', 'utf8').trim().split('\n');
  const english = lines
    .map((line) => JSON.parse(line) as { category: string; text: string })
    .filter(({ category }) => category === 'english')
    .map(({ text }) => text);
  return Array.from({ length: english.length }, (_, i) => [...english.slice(i), ...english].slice(0, 8).join(' '));
}

const texts =
  values.text === undefined
    ? goldenTexts()
    : readFileSync(values.text, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
const tokenizer = await loadTokenizer(values.model);
const numChars = texts.reduce((sum, text) => sum + text.length, 0);
const repeats = Math.max(1, Math.ceil(RUN_CHARS / numChars));
const out = new Int32Array(3 * Math.max(...texts.map((text) => text.length)) + 16);

const rates: number[] = [];
let charsPerToken = 0;
for (let run = 0; run < Number(values.runs); run++) {
  const start = performance.now();
  let numTokens = 0;
  for (let i = 0; i < repeats; i++) for (const text of texts) numTokens += tokenizer.encodeInto(text, out, 0);
  const seconds = (performance.now() - start) / 1000;
  rates.push(numTokens / seconds);
  charsPerToken = (repeats * numChars) / numTokens;
}
rates.sort((a, b) => a - b);
const format = (rate: number): string => `${(rate / 1e6).toFixed(2)} M tokens/s`;
console.log(
  `${format(rates[rates.length >> 1]!)} (median of ${rates.length}; ${format(rates[0]!)} to ${format(rates[rates.length - 1]!)}), ` +
    `${charsPerToken.toFixed(2)} characters a token, ${texts.length} texts, ${values.model}`,
);
