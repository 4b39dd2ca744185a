/** C4 `en`: the text of span denoising. */
import type { Denoising, HubSource } from '../task.ts';
import { hub } from './exmix-task.ts';

/** 1,024 files of JSON lines. A record has the fields text, timestamp and url. */
const source: HubSource = hub('allenai/c4', 'en', 'train', { files: ['en/c4-train.*.json.gz'], format: 'jsonl' });

/** 8 files, 364,608 documents. */
const validation: HubSource = { ...source, split: 'validation', files: ['en/c4-validation.*.json.gz'] };

export const C4 = {
  name: 'c4_en',
  source,
  text: '{text}',
  splits: { validation: [{ name: 'validation', source: validation }], test: [] },
} satisfies Denoising;

/** What a listing shows besides source and text. */
export const C4_FACTS = {
  family: 'denoising',
  citation: 'Raffel 2020',
  /** Documents. The number of segments depends on the tokenizer and the feature lengths. */
  numDocuments: 364_868_892,
  columns: { text: 'string' },
  confidence: 'high',
  note: 'Version 2.2.0 of T5, as Allen AI publishes it. Preparing joins the documents and cuts them into segments; training corrupts the spans.',
} as const;
