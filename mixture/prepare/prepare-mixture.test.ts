import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { TrainerError } from '../../shared/errors.ts';
import { openPreparedMixture } from '../feed/prepared-mixture.ts';
import { writeZstd } from '../sources/zstd.fixture.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import type { Mixture } from '../tasks/task.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { prepareMixture, type PrepareInit } from './prepare-mixture.ts';
import { preparedFolder } from './prepared-folder.ts';
import { readManifests } from './read-manifests.ts';
import { sentence, writeSmallMixture } from './small-mixture.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-prepare-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = () => join(root, String(numFolders++));

const prepare = (mixture: Mixture, outDir: string, options: Partial<PrepareInit> = {}) =>
  prepareMixture({ mixture, outDir, featureLengths: { inputs: 24, targets: 12 }, shardBytes: 1024, ...options });

/** Relative path → content of all files of a folder. */
function contentOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name)).sort();
  return new Map(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, 'latin1')]));
}

/** Tasks that have a manifest. */
function finishedTasks(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => existsSync(join(folder, name, 'manifest.json')))
    .sort();
}

/** Names of partial folders at any depth. */
function partialFolders(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => /\.partial-[^/]*$/.test(path));
}

function editFile(path: string, edit: (text: string) => string): void {
  const before = readFileSync(path, 'utf8');
  const edited = edit(before);
  assert.notEqual(edited, before);
  writeFileSync(path, edited);
}

/** Changes a file of the sources, and loads the mixture again. */
function change(folder: string, file: string, edit: (text: string) => string): Mixture {
  editFile(join(folder, file), edit);
  return loadMixture(join(folder, 'mixture.yaml'));
}

describe('preparing a mixture', () => {
  test('makes the same bytes from copies of the sources in other folders, with other times', async () => {
    const [first, second] = [newFolder(), newFolder()];
    const a = writeSmallMixture(newFolder());
    const b = writeSmallMixture(newFolder());
    for (const { source } of b.tasks)
      if (source.kind === 'files') for (const { location } of source.files) utimesSync(location, 1, 1);
    const reportA = await prepare(a, first);
    const reportB = await prepare(b, second);
    assert.equal(reportA.hash, reportB.hash);
    assert.deepEqual(contentOf(first), contentOf(second));
    const text = [...contentOf(first)].filter(([name]) => name.endsWith('.json')).map(([, content]) => content);
    assert.doesNotMatch(text.join(''), new RegExp(root));
    assert.ok(
      [...contentOf(first).keys()].includes(join('zipped', 'unit-00001', 'shard-00001.tokens')),
      'several shards',
    );
  });

  test('makes the same tokens from compressed files, UTF-16 and a JSON array under the same names', async () => {
    const [first, second] = [newFolder(), newFolder()];
    const folder = newFolder();
    await prepare(writeSmallMixture(newFolder()), first);
    writeSmallMixture(folder);
    const encode = (file: string, change: (content: Buffer) => Uint8Array | string) => {
      const path = join(folder, file);
      writeFileSync(path, change(readFileSync(path)));
    };
    const rowsOf = (content: Buffer) => content.toString().trim().split('\n');
    encode('plain.jsonl', gzipSync);
    encode('z1.jsonl.gz', (content) => writeZstd([gunzipSync(content)]));
    encode('z2.jsonl.gz', (content) => gzipSync(`[${rowsOf(gunzipSync(content)).join(',\n')}]`));
    encode('table.csv', (content) => Buffer.from(`\ufeffsep=,\r\n${rowsOf(content).join('\r\n')}`, 'utf16le'));
    encode('text.txt.gz', (content) => gzipSync(gzipSync(gunzipSync(content))));
    await prepare(loadMixture(join(folder, 'mixture.yaml')), second, { unitBytes: 100_000 });
    const tokensOf = (outDir: string) => [...contentOf(outDir)].filter(([name]) => /\.(tokens|index|crc)$/u.test(name));
    assert.deepEqual(tokensOf(second), tokensOf(first));
    assert.ok(tokensOf(first).length > 10);
  });

  test('stores the ids of the tokenizer, with EOS after inputs and targets, in the order of the source', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    await prepare(mixture, outDir, { featureLengths: { inputs: 64, targets: 20 } });
    const prepared = await openPreparedMixture(outDir);
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    const textsOf = async (task: number, index: number) => {
      const ids = await prepared.tasks[task]!.readTokens(index);
      const inputsLength = prepared.tasks[task]!.inputsLength(index);
      assert.deepEqual([ids[inputsLength - 1], ids.at(-1)], [1, 1]);
      return [tokenizer.decode(ids.subarray(0, inputsLength)), tokenizer.decode(ids.subarray(inputsLength))];
    };
    assert.deepEqual(prepared.taskNames, ['plain', 'zipped', 'table', 'tabbed', 'denoise']);
    assert.deepEqual(
      prepared.tasks.slice(0, 4).map(({ numExamples }) => numExamples),
      [60, 120, 60, 60],
    );
    for (let i = 0; i < 60; i++) {
      assert.deepEqual(await textsOf(0, i), [`say: ${sentence(i)}`, sentence(3 * i, 4)]);
      assert.deepEqual(await textsOf(1, 60 + i), [sentence(2000 + i), sentence(2000 + 3 * i, 4)]);
      assert.deepEqual(await textsOf(2, i), [`is it ${sentence(i)}, "so"?`, ['no', 'yes'][i % 2]]);
      assert.deepEqual(await textsOf(3, i), [`"${sentence(i)}`, sentence(i + 5, 3)]);
    }
    prepared.close();
  });

  test('cuts the documents into full segments without separators, and counts the remaining tokens', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    const report = await prepare(mixture, outDir);
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    const raw = Array.from({ length: 60 }, (_, i) => tokenizer.encode(sentence(i, 40))).flat();
    const { manifest } = report.tasks.at(-1)!;
    assert.equal(manifest.segmentLength, 26); // inputs 24: 26 raw tokens, 4 of them noise in 1 span
    const prepared = await openPreparedMixture(outDir);
    const denoise = prepared.tasks.at(-1)!;
    const stored: number[] = [];
    for (let i = 0; i < denoise.numExamples; i++) stored.push(...(await denoise.readTokens(i)));
    assert.deepEqual(stored, raw.slice(0, stored.length));
    assert.equal(raw.length - stored.length, manifest.droppedTokens.remainder);
    assert.equal(manifest.tokensIn, raw.length);
    assert.deepEqual(manifest.droppedTokens.longDocuments, 0);
    assert.ok(manifest.droppedTokens.remainder < 26);
    prepared.close();
  });

  test('cuts long examples to the feature lengths, keeps EOS and counts the cuts', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    const { tasks } = await prepare(mixture, outDir, { featureLengths: { inputs: 8, targets: 4 } });
    const prepared = await openPreparedMixture(outDir);
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    const plain = prepared.tasks[0]!;
    let cut = 0;
    for (let i = 0; i < plain.numExamples; i++) {
      const whole = tokenizer.encode(`say: ${sentence(i)}`);
      const inputs = [...(await plain.readTokens(i)).subarray(0, plain.inputsLength(i))];
      assert.deepEqual(inputs, [...whole.slice(0, 7), 1]);
      if (whole.length > 7) cut += 1;
    }
    assert.ok(cut > 0 && cut < 60);
    assert.equal(tasks[0]!.manifest.truncated.inputs, cut);
    prepared.close();
  });

  test('a second time finds everything done and changes no file', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    const first = await prepare(mixture, outDir);
    const written = [...contentOf(outDir).keys()].map((name) => statSync(join(outDir, name)).ino);
    const second = await prepare(mixture, outDir);
    assert.deepEqual(
      second.tasks.map(({ outcome }) => outcome),
      Array(5).fill('reused'),
    );
    assert.equal(second.hash, first.hash);
    assert.deepEqual(
      [...contentOf(outDir).keys()].map((name) => statSync(join(outDir, name)).ino),
      written,
    );
  });

  for (const [what, file, edit, task, reason] of [
    [
      'a row of the source',
      'plain.jsonl',
      (text: string) => text.replace('"q":"', '"q":"new '),
      'plain',
      /source \(plain\.jsonl\)/,
    ],
    ['a template', 'mixture.yaml', (text: string) => text.replace('is it', 'was it'), 'table', /template/],
    ['a label', 'mixture.yaml', (text: string) => text.replace('"yes"', '"sure"'), 'table', /template/],
    [
      'how quotes are read',
      'mixture.yaml',
      (text: string) => text.replace('tsv, quotes: false', 'tsv, quotes: true'),
      'tabbed',
      /source \(format or quotes\)/,
    ],
  ] as const)
    test(`makes only the changed task again if ${what} changes, and reports why`, async () => {
      const folder = newFolder();
      const outDir = newFolder();
      const first = await prepare(writeSmallMixture(folder), outDir);
      const changed = change(folder, file, edit);
      const second = await prepare(changed, outDir, { badRowThreshold: 1 }).catch((error: unknown) => error);
      if (task === 'tabbed') {
        // Every row now begins with a quote that never ends.
        assert.ok(second instanceof TrainerError && second.code === 'SOURCE_MALFORMED', String(second));
        return;
      }
      assert.ok(!(second instanceof Error), String(second));
      const { tasks, hash } = second as Awaited<ReturnType<typeof prepare>>;
      assert.deepEqual(
        tasks.filter(({ outcome }) => outcome === 'prepared').map(({ name }) => name),
        [task],
      );
      assert.match(tasks.find(({ name }) => name === task)?.reason ?? '', reason);
      assert.notEqual(hash, first.hash);
      const fresh = newFolder();
      await prepare(changed, fresh);
      assert.deepEqual(contentOf(outDir), contentOf(fresh));
    });

  test('makes all tasks again for other feature lengths, and repairs a damaged shard', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    await prepare(mixture, outDir);
    const longer = await prepare(mixture, outDir, { featureLengths: { inputs: 32, targets: 12 } });
    assert.ok(
      longer.tasks.every(
        ({ outcome, reason }) => outcome === 'prepared' && /feature lengths \(inputs 24/.test(reason ?? ''),
      ),
    );
    const before = contentOf(outDir);
    appendFileSync(join(outDir, 'table', 'unit-00000', 'shard-00000.tokens'), 'x');
    const repaired = await prepare(mixture, outDir, { featureLengths: { inputs: 32, targets: 12 } });
    assert.deepEqual(
      repaired.tasks
        .filter(({ outcome }) => outcome === 'prepared')
        .map(({ name, reason }) => [name, /damaged/.test(reason ?? '')]),
      [['table', true]],
    );
    assert.deepEqual(contentOf(outDir), before);
  });
});

describe('a mixture of another layout', () => {
  test('is reported as such to readers, and is prepared again', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    const { hash } = await prepare(mixture, outDir);
    editFile(join(outDir, 'mixture.json'), (text) => text.replace('"version": 2', '"version": 1'));
    const message = /mixture\.json was written by another version of exmix: layout 1, this version reads 2/;
    await assert.rejects(openPreparedMixture(outDir), { code: 'SHARD_CORRUPT', message });
    await assert.rejects(readManifests(outDir), { code: 'SHARD_CORRUPT', message });
    assert.equal((await prepare(mixture, outDir)).hash, hash);
  });
});

describe('malformed rows', () => {
  const bad = '{"q":"x"}\n{"q":"","a":"y"}\n{"q":1,"a":["y"]}\n{"q":"x","a":"\\u0001"}\nnot json\n';

  test('above the threshold are SOURCE_MALFORMED with counts, files, lines and reasons of all tasks; other tasks are finished', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    writeSmallMixture(folder);
    appendFileSync(join(folder, 'plain.jsonl'), bad);
    const mixture = change(folder, 'table.csv', (text) => `${text}some text,perhaps\n`);
    const error = await prepare(mixture, outDir).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof TrainerError);
    assert.equal(error.code, 'SOURCE_MALFORMED');
    assert.match(error.message, /task plain: 5 of 65 rows are malformed \(7\.69%\), at most 0\.1% may be/);
    assert.match(error.message, /plain\.jsonl:61: targets: field "a" is missing/);
    assert.match(error.message, /plain\.jsonl:62: inputs: empty: "q"/);
    assert.match(error.message, /plain\.jsonl:63: targets: field "a" must be text.* is a list/);
    assert.match(error.message, /plain\.jsonl:64: targets: no token is left after normalisation/);
    assert.match(error.message, /plain\.jsonl:65: not JSON: the line starts with "not json"/);
    assert.match(error.message, /task table: 1 of 61 rows .*\n {2}table\.csv:62: targets: unknown label "perhaps"/);
    assert.deepEqual(finishedTasks(outDir), ['denoise', 'tabbed', 'zipped']);
    await assert.rejects(openPreparedMixture(outDir), { code: 'PATH_UNUSABLE' });
  });

  test('below the threshold are left out and counted; a stricter threshold rejects the same shards', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    const mixture = writeSmallMixture(folder);
    appendFileSync(join(folder, 'plain.jsonl'), bad);
    const { tasks } = await prepare(mixture, outDir, { badRowThreshold: 0.1 });
    const { manifest } = tasks[0]!;
    assert.deepEqual([manifest.numExamples, manifest.numRows, manifest.malformed.numRows], [60, 65, 5]);
    assert.equal(manifest.malformed.first.length, 5);
    await assert.rejects(prepare(mixture, outDir), { code: 'SOURCE_MALFORMED' });
    assert.equal((await prepare(mixture, outDir, { badRowThreshold: 0.1 })).tasks[0]!.outcome, 'reused');
  });

  test('a source without rows or without one full segment is SOURCE_MALFORMED', async () => {
    const folder = newFolder();
    writeSmallMixture(folder);
    const empty = change(folder, 'plain.jsonl', () => '\n');
    await assert.rejects(prepare(empty, newFolder()), {
      code: 'SOURCE_MALFORMED',
      message: /task plain: the source has no rows/,
    });
    const short = writeSmallMixture(newFolder(), 1);
    await assert.rejects(prepare(short, newFolder(), { featureLengths: { inputs: 512, targets: 114 } }), {
      code: 'SOURCE_MALFORMED',
      message: /task denoise: expected text for at least one segment of 568 tokens/,
    });
  });
});

describe('what cannot be prepared', () => {
  const mixture = writeSmallMixture(newFolder());

  test('lengths, thresholds and denoising targets out of range are CONFIG_INVALID', async () => {
    for (const [featureLengths, badRowThreshold, message] of [
      [{ inputs: 1, targets: 12 }, 0, /inputs length: .* found 1/],
      [{ inputs: 24, targets: 70_000 }, 0, /targets length: .* found 70000/],
      [{ inputs: 24, targets: 12 }, 1.5, /threshold: .* found 1\.5/],
      [{ inputs: 512, targets: 100 }, 0, /denoising of 512 input tokens needs 114 target tokens, found 100/],
    ] as const)
      await assert.rejects(prepare(mixture, newFolder(), { featureLengths, badRowThreshold }), {
        code: 'CONFIG_INVALID',
        message,
      });
  });

  test('one error names all missing sources before anything is written', async () => {
    const folder = newFolder();
    const broken = writeSmallMixture(folder);
    rmSync(join(folder, 'plain.jsonl'));
    rmSync(join(folder, 'text.txt.gz'));
    const outDir = newFolder();
    await assert.rejects(prepare(broken, outDir), {
      code: 'SOURCE_UNREADABLE',
      message: /plain\.jsonl[^]*text\.txt\.gz/,
    });
    assert.equal(existsSync(outDir), false);
  });

  test('a required column that the header lacks is CONFIG_INVALID', async () => {
    const folder = newFolder();
    writeSmallMixture(folder);
    const broken = change(folder, 'table.csv', (text) => text.replace('label', 'lable'));
    await assert.rejects(prepare(broken, newFolder()), {
      code: 'CONFIG_INVALID',
      message: /no column "label"; did you mean lable/,
    });
  });

  test('an output path that is a file is PATH_UNUSABLE', async () => {
    const file = newFolder();
    writeFileSync(file, '');
    await assert.rejects(prepare(mixture, file), { code: 'PATH_UNUSABLE' });
  });

  const isRoot = process.getuid?.() === 0;
  const skip = isRoot ? 'root may write into every folder' : false;
  test('an output folder without write permission is PATH_UNUSABLE', { skip }, async () => {
    const locked = newFolder();
    mkdirSync(locked);
    chmodSync(locked, 0o500);
    await assert.rejects(prepare(mixture, join(locked, 'out')), { code: 'PATH_UNUSABLE' });
  });

  test('an abort leaves finished tasks and no partial folder', async () => {
    const outDir = newFolder();
    const controller = new AbortController();
    const onTask = () => controller.abort();
    await assert.rejects(prepare(mixture, outDir, { signal: controller.signal, onTask }), { code: 'ABORTED' });
    assert.deepEqual(finishedTasks(outDir), ['plain']);
    assert.deepEqual(partialFolders(outDir), []);
    assert.deepEqual(readdirSync(join(outDir, 'zipped')), []);
  });
});

describe('a killed process', () => {
  const child = fileURLToPath(new URL('./prepare-child.fixture.ts', import.meta.url));
  const folder = newFolder();
  const mixture = writeSmallMixture(folder, 2500);

  /** Runs the child until a line matches `stopAt`, then kills it with SIGKILL. @returns its lines */
  async function runUntil(outDir: string, stopAt: RegExp): Promise<{ lines: string[]; signal: string | null }> {
    const process_ = spawn(process.execPath, ['--import', 'tsx', child, mixture.path, outDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise<string | null>((resolve) => process_.on('exit', (_code, signal) => resolve(signal)));
    const lines: string[] = [];
    for await (const line of createInterface(process_.stdout)) {
      lines.push(line);
      if (stopAt.test(line)) process_.kill('SIGKILL');
    }
    return { lines, signal: await ended };
  }

  test('leaves no unfinished task; the next run keeps finished units and gives the bytes of an undisturbed run', async () => {
    const undisturbed = newFolder();
    await prepare(mixture, undisturbed);
    const outDir = newFolder();
    const killed = await runUntil(outDir, /^progress zipped/);
    assert.equal(killed.signal, 'SIGKILL');
    assert.ok(!killed.lines.some((line) => line.startsWith('task zipped')));
    assert.equal(partialFolders(outDir).length, 1, 'one partial folder is left');
    assert.deepEqual(finishedTasks(outDir), ['plain']);
    await assert.rejects(openPreparedMixture(outDir), { code: 'PATH_UNUSABLE' });

    const plain = statSync(join(outDir, 'plain', 'unit-00000')).ino;
    const resumed = await runUntil(outDir, /^never$/);
    assert.equal(resumed.signal, null);
    assert.ok(resumed.lines.includes('task plain reused') && resumed.lines.includes('task zipped prepared'));
    assert.equal(statSync(join(outDir, 'plain', 'unit-00000')).ino, plain);
    assert.deepEqual(contentOf(outDir), contentOf(undisturbed));
  });

  test('two preparations of the same folder at the same time give one result', async () => {
    const outDir = newFolder();
    const small = writeSmallMixture(newFolder());
    const [a, b] = await Promise.all([prepare(small, outDir), prepare(small, outDir)]);
    assert.equal(a.hash, b.hash);
    assert.equal((await openPreparedMixture(outDir)).hash, a.hash);
    assert.deepEqual(partialFolders(outDir), []);
  });
});

describe('the default folder', () => {
  test('depends on the mixture and its identity, not on the place of the files', () => {
    const [here, there] = [newFolder(), newFolder()];
    const featureLengths = { inputs: 24, targets: 12 };
    const folderOf = (mixture: Mixture, lengths = featureLengths) =>
      preparedFolder({ mixture, featureLengths: lengths, home: '/home/x' });
    const first = folderOf(writeSmallMixture(here));
    assert.match(first, /^\/home\/x\/prepared\/small-[0-9a-f]{12}$/);
    assert.equal(folderOf(writeSmallMixture(there)), first);
    assert.notEqual(folderOf(writeSmallMixture(there), { inputs: 25, targets: 12 }), first);
    assert.notEqual(folderOf(change(there, 'mixture.yaml', (text) => text.replace('say:', 'tell:'))), first);
    appendFileSync(join(here, 'table.csv'), 'z,1\n');
    assert.notEqual(folderOf(loadMixture(join(here, 'mixture.yaml'))), first);
  });
});
