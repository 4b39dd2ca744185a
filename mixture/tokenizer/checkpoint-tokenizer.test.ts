import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkpointTokenizer } from './checkpoint-tokenizer.ts';
import { GOLDEN_MODEL_PATH } from './golden-lines.fixture.ts';
import { loadTokenizer } from './tokenizer.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-checkpoint-tokenizer-'));
after(() => rmSync(root, { recursive: true }));

test('a SentencePiece model of any name is spiece.model in a checkpoint, beside three files for Transformers', async () => {
  const path = join(root, 'vocabulary.bin');
  writeFileSync(path, readFileSync(GOLDEN_MODEL_PATH));
  const files = await checkpointTokenizer(path);
  assert.deepEqual(files[0], { name: 'spiece.model', source: path });
  assert.deepEqual(
    files.slice(1).map(({ name }) => name),
    ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'],
  );
});

test('a tokenizer.json keeps its bytes, and gets the two small files for as many extra ids as it has', async () => {
  const [, json] = await checkpointTokenizer(GOLDEN_MODEL_PATH);
  assert.ok(json !== undefined && 'text' in json);
  const path = join(root, 'mine.json');
  writeFileSync(path, json.text);
  const files = await checkpointTokenizer(path);
  assert.deepEqual(files[0], { name: 'tokenizer.json', source: path });
  const config = files.find(({ name }) => name === 'tokenizer_config.json');
  assert.ok(config !== undefined && 'text' in config);
  assert.equal((JSON.parse(config.text) as { extra_ids: number }).extra_ids, 100);
  assert.equal(files.length, 3);
  assert.equal((await loadTokenizer(path)).vocabSize, (await loadTokenizer(GOLDEN_MODEL_PATH)).vocabSize);
});

test('a file that is no tokenizer is refused', async () => {
  const path = join(root, 'text.txt');
  writeFileSync(path, 'words');
  await assert.rejects(checkpointTokenizer(path), { code: 'TOKENIZER_INVALID' });
  await assert.rejects(checkpointTokenizer(join(root, 'nothing')), { code: 'PATH_UNUSABLE' });
});
