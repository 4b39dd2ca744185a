import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { applyRecord, EMPTY_JOURNAL_STATE, type JournalRecord, type JournalState } from './journal-records.ts';
import { journalText as text } from './journal.fixture.ts';
import {
  encodeRecord,
  FIRST_LINK,
  Journal,
  JournalReader,
  linkTo,
  MAX_PENDING_BYTES,
  MAX_PENDING_RECORDS,
  replayJournal,
} from './journal.ts';

let folder = '';
let numPaths = 0;
const newPath = () => join(folder, `journal-${numPaths++}`);
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'exmix-journal-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const opened = (epoch: number, step: number): JournalRecord => ({
  kind: 'run-opened',
  epoch,
  configHash: 'c0ffee',
  seed: 7,
  mixtureHash: 'abcd',
  step,
});
const formed = (epoch: number, generation: number, firstStep: number): JournalRecord => ({
  kind: 'generation-formed',
  epoch,
  generation,
  firstStep,
  members: ['w0', 'w1'],
  lanes: [
    [0, 2],
    [2, 4],
  ],
});
const committed = (epoch: number, step: number): JournalRecord => ({
  kind: 'step-committed',
  epoch,
  generation: 1,
  step,
  cursor: { window: step, credits: [0.25, -0.25], note: 'façade' },
  gradDigest: 0xab12,
  loss: 6.5 - step / 10,
});
const published = (step: number): JournalRecord => ({
  kind: 'checkpoint-published',
  step,
  path: `checkpoints/step-${step}`,
  paramDigest: '00ff',
});

const RUN: readonly JournalRecord[] = [
  opened(1, 0),
  formed(1, 1, 1),
  committed(1, 1),
  committed(1, 2),
  published(2),
  committed(1, 3),
];

function applied(state: JournalState, record: JournalRecord): JournalState {
  const next = applyRecord(state, record);
  assert.ok(typeof next !== 'string', JSON.stringify(next));
  return next;
}

/** The last line of a journal of these records, newline included. */
const lastLine = (records: readonly JournalRecord[]) =>
  text(records.slice(-1), text(records.slice(0, -1)).split('\n').at(-2));

describe('journal file', () => {
  test('a line is the CRC-32 of the rest, the link to the line before and the JSON', () => {
    const record: JournalRecord = { kind: 'run-finished', epoch: 1, step: 3 };
    const json = '{"kind":"run-finished","epoch":1,"step":3}';
    const first = encodeRecord(record, FIRST_LINK);
    const firstRest = `00000000000000000000000000000000 ${json}`;
    assert.equal(first, `${crc32(firstRest).toString(16).padStart(8, '0')} ${firstRest}\n`);
    const link = createHash('sha256').update(first.slice(0, -1)).digest('hex').slice(0, 32);
    assert.equal(linkTo(first.slice(0, -1)), link);
    assert.equal(encodeRecord(record, link).slice(9), `${link} ${json}\n`);
    assert.equal(text([record, record]), first + encodeRecord(record, link));
  });

  test('a record is in the file when append resolves, and replay gives the sum of all records', async () => {
    const path = newPath();
    const { journal } = await Journal.open(path);
    for (const [i, record] of RUN.entries()) {
      await journal.append(record);
      assert.equal(await readFile(path, 'utf8'), text(RUN.slice(0, i + 1)));
    }
    const before = journal.state;
    await journal.close();

    const { journal: again, replay } = await Journal.open(path);
    await again.close();
    assert.equal(replay.torn, undefined);
    assert.equal(replay.numRecords, RUN.length);
    assert.deepEqual(replay.state, before);
    assert.equal(replay.state.step, 3);
    assert.equal(replay.state.lastCheckpoint?.path, 'checkpoints/step-2');
    assert.deepEqual(replay.state.lastCommit, committed(1, 3));
    assert.equal(replay.state.ending, 'open');
  });

  test('validations are known after a replay, of each step the last one, also those of steps that are trained again', () => {
    const validated = (epoch: number, step: number, loss: number): JournalRecord => ({
      kind: 'checkpoint-validated',
      ...{ epoch, step, paramDigest: '00ff', settings: '0a', split: 'validation' },
      tasks: { a: { numExamples: 2, loss, metrics: { accuracy: { accuracy: null } } } },
    });
    const records = [
      ...RUN,
      validated(1, 2, 0.5),
      opened(2, 0),
      formed(2, 1, 1),
      committed(2, 1),
      validated(2, 1, 0.7),
    ];
    const state = [...records, committed(2, 2), validated(2, 2, 0.4)].reduce(applied, EMPTY_JOURNAL_STATE);
    assert.deepEqual(
      state.validations.map(({ epoch, step, tasks }) => [epoch, step, tasks['a']?.loss]),
      [
        [2, 1, 0.7],
        [2, 2, 0.4],
      ],
    );
    assert.equal(applyRecord(state, validated(2, 3, 0.4)), 'checkpoint of step 3 validated after step 2');
  });

  test('appends that were not awaited reach the file in the order of the calls', async () => {
    const path = newPath();
    const { journal } = await Journal.open(path);
    const appends = [opened(1, 0), ...Array.from({ length: 40 }, (_, i) => committed(1, i + 1))];
    const order: number[] = [];
    await Promise.all(appends.map((record, i) => journal.append(record).then(() => order.push(i))));
    await journal.close();
    assert.equal(await readFile(path, 'utf8'), text(appends));
    assert.deepEqual(order, [...appends.keys()]);
  });

  test('a last record torn at any byte is cut off and reported; the next append follows the record before it', async () => {
    const whole = Buffer.from(text(RUN.slice(0, -1)));
    const last = Buffer.from(lastLine(RUN));
    const path = newPath();
    for (let kept = 0; kept < last.length; kept++) {
      await writeFile(path, Buffer.concat([whole, last.subarray(0, kept)]));
      const { journal, replay } = await Journal.open(path);
      assert.equal(replay.state.step, 2);
      assert.equal(replay.torn?.bytes, kept === 0 ? undefined : kept);
      assert.equal(replay.torn?.line, kept === 0 ? undefined : RUN.length);
      await journal.append(committed(1, 3));
      await journal.close();
      assert.equal(await readFile(path, 'utf8'), text(RUN));
    }
  });

  test('zeros after the last record, as a power cut leaves them, are cut off', async () => {
    const path = newPath();
    await writeFile(path, Buffer.concat([Buffer.from(text(RUN)), Buffer.alloc(5000)]));
    const { journal, replay } = await Journal.open(path);
    await journal.close();
    assert.equal(replay.torn?.bytes, 5000);
    assert.equal(await readFile(path, 'utf8'), text(RUN));
  });

  test('any flipped bit before the last record is JOURNAL_CORRUPT and names the line', async () => {
    const bytes = Buffer.from(text(RUN));
    const lastStart = bytes.length - Buffer.byteLength(lastLine(RUN));
    const path = newPath();
    await fc.assert(
      fc.asyncProperty(fc.nat(lastStart - 1), fc.nat(7), async (at, bit) => {
        const line = bytes.subarray(0, at).filter((byte) => byte === 0x0a).length + 1;
        const damaged = Buffer.from(bytes);
        damaged[at] = damaged[at]! ^ (1 << bit);
        await writeFile(path, damaged);
        await assert.rejects(replayJournal(path), (error: Error & { code?: string }) => {
          assert.equal(error.code, 'JOURNAL_CORRUPT');
          assert.match(error.message, new RegExp(`line ${line}: `));
          return true;
        });
      }),
      { numRuns: 300 },
    );
  });

  /** The lines of a run, changed, without their newlines. */
  const changed: readonly (readonly [string, (lines: string[]) => string[], number])[] = [
    ['two records swapped', ([a, b, c, d, ...rest]) => [a!, b!, d!, c!, ...rest], 3],
    ['a record dropped', ([a, b, ...rest]) => [a!, b!, ...rest.slice(1)], 3],
    ['the first record dropped', (lines) => lines.slice(1), 1],
    ['the record before the last dropped', (lines) => lines.toSpliced(-2, 1), 5],
    ['a record twice', ([a, b, ...rest]) => [a!, b!, b!, ...rest], 3],
    [
      'a record inserted that follows the one before',
      ([a, b, ...rest]) => [a!, b!, text([formed(1, 2, 1)], b).trimEnd(), ...rest],
      4,
    ],
    [
      'a record with another content and its right CRC',
      ([a, b, , ...rest]) => [a!, b!, text([{ ...committed(1, 1), loss: 0 } as JournalRecord], b).trimEnd(), ...rest],
      4,
    ],
    ['a record of another journal', ([a, b, , ...rest]) => [a!, b!, text([committed(1, 1)]).trimEnd(), ...rest], 3],
  ];
  for (const [what, change, line] of changed)
    test(`${what}: JOURNAL_CORRUPT names the first line that does not follow`, async () => {
      const path = newPath();
      const lines = change(text(RUN).trimEnd().split('\n'));
      await writeFile(path, `${lines.join('\n')}\n`);
      const expected = {
        code: 'JOURNAL_CORRUPT',
        message: new RegExp(`line ${line}: expected a record that follows line ${line - 1}`, 'u'),
      };
      await assert.rejects(replayJournal(path), expected);
      await assert.rejects(Journal.open(path), expected);
      assert.equal(await readFile(path, 'utf8'), `${lines.join('\n')}\n`, 'nothing is cut off');
    });

  test('any two lines swapped, any line but the last dropped, any line doubled: JOURNAL_CORRUPT', async () => {
    const lines = text([...RUN, ...Array.from({ length: 6 }, (_, i) => committed(1, i + 4))])
      .trimEnd()
      .split('\n');
    const path = newPath();
    const expectRefusal = async (damaged: readonly string[]): Promise<void> => {
      await writeFile(path, `${damaged.join('\n')}\n`);
      await assert.rejects(replayJournal(path), { code: 'JOURNAL_CORRUPT' });
    };
    for (let i = 0; i < lines.length; i++) {
      for (let k = i + 1; k < lines.length; k++) await expectRefusal(lines.with(i, lines[k]!).with(k, lines[i]!));
      if (i < lines.length - 1) await expectRefusal(lines.toSpliced(i, 1));
      await expectRefusal(lines.toSpliced(i, 0, lines[i]!));
    }
  });

  test('a record nested beyond any cursor is JOURNAL_CORRUPT, whatever its CRC', async () => {
    const path = newPath();
    const nested = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    const before = text(RUN.slice(0, 2));
    const link = linkTo(before.trimEnd().split('\n').at(-1)!);
    const rest = `${link} ${JSON.stringify({ ...committed(1, 1), cursor: 0 }).replace('"cursor":0', `"cursor":${nested}`)}`;
    const line = `${crc32(rest).toString(16).padStart(8, '0')} ${rest}\n`;
    await writeFile(path, before + line + line);
    await assert.rejects(replayJournal(path), { code: 'JOURNAL_CORRUPT', message: /line 3: too many lists/u });
  });

  test('the links go on over sessions and over a torn last line', async () => {
    const path = newPath();
    for (const [i, record] of RUN.entries()) {
      const { journal } = await Journal.open(path);
      await journal.append(record);
      await journal.close();
      if (i === 3) await appendFile(path, lastLine(RUN.slice(0, 5)).slice(0, 60));
    }
    assert.equal(await readFile(path, 'utf8'), text(RUN));
  });

  test('a journal of a version without links is refused with what to do, whole or torn', async () => {
    const path = newPath();
    const json = JSON.stringify(RUN[0]);
    const old = `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
    for (const content of [old, old.slice(0, -20), old + old]) {
      await writeFile(path, content);
      const expected = { code: 'JOURNAL_CORRUPT', message: /older version of exmix.*--resume CHECKPOINT/u };
      await assert.rejects(Journal.open(path), expected);
      assert.equal(await readFile(path, 'utf8'), content, 'nothing is cut off');
    }
  });

  test('a link or a FIFO in place of the journal is refused, and nothing is written through it', async () => {
    const target = newPath();
    await writeFile(target, 'mine\n');
    const link = newPath();
    await symlink(target, link);
    await assert.rejects(Journal.open(link), { code: 'PATH_UNUSABLE', message: /found a symbolic link/u });
    assert.equal(await readFile(target, 'utf8'), 'mine\n');
    const fifo = newPath();
    execFileSync('mkfifo', [fifo]);
    await assert.rejects(Journal.open(fifo), { code: 'PATH_UNUSABLE', message: /found a FIFO/u });
    await assert.rejects(replayJournal(fifo), { code: 'PATH_UNUSABLE', message: /found a FIFO/u });
  });

  test('a whole record that cannot follow the others is JOURNAL_CORRUPT, also at the end', async () => {
    const path = newPath();
    await writeFile(path, text([...RUN, committed(1, 5)]));
    await assert.rejects(replayJournal(path), {
      code: 'JOURNAL_CORRUPT',
      message: /line 7: step 5 committed after step 3/,
    });
  });

  test('onRecord sees each record with its line', async () => {
    const path = newPath();
    await writeFile(path, text(RUN));
    const seen: [string, number][] = [];
    await replayJournal(path, { onRecord: (record, line) => seen.push([record.kind, line]) });
    assert.deepEqual(
      seen,
      RUN.map((record, i) => [record.kind, i + 1]),
    );
  });

  test('a reader of a journal that grows sees each record once, for any cut of the bytes', async () => {
    const path = newPath();
    const bytes = Buffer.from(text(RUN));
    const reader = new JournalReader(path);
    const seen: JournalRecord[] = [];
    for (let length = 0; length <= bytes.length; length += 37) {
      await writeFile(path, bytes.subarray(0, length));
      await reader.read({ onRecord: (record) => seen.push(record) });
    }
    await writeFile(path, bytes);
    const { torn, ...last } = await reader.read({ onRecord: (record) => seen.push(record) });
    assert.equal(torn, undefined);
    assert.deepEqual(seen, RUN);
    assert.deepEqual(last, await replayJournal(path));
  });

  test('a reader refuses a journal that lost records, and goes on where a torn line was replaced', async () => {
    const path = newPath();
    const whole = text(RUN.slice(0, 3));
    await writeFile(path, `${whole}0badbad0 `);
    const reader = new JournalReader(path);
    assert.equal((await reader.read()).torn?.line, 4);
    await writeFile(path, text(RUN));
    assert.equal((await reader.read()).numRecords, RUN.length);
    await writeFile(path, whole);
    await assert.rejects(reader.read(), { code: 'JOURNAL_CORRUPT', message: /which were read before, found \d+ B/u });
  });

  test('a record that breaks its schema or the order of the run is refused and leaves the journal usable', async () => {
    const path = newPath();
    const { journal } = await Journal.open(path);
    await assert.rejects(journal.append(committed(1, 1)), { code: 'INTERNAL', message: /before any run-opened/ });
    await journal.append(opened(1, 0));
    await assert.rejects(journal.append({ ...committed(1, 1), loss: Number.NaN } as JournalRecord), {
      code: 'INTERNAL',
    });
    await assert.rejects(journal.append(committed(1, 2)), { message: /step 2 committed after step 0/ });
    await journal.append(committed(1, 1));
    await journal.close();
    assert.equal(await readFile(path, 'utf8'), text([opened(1, 0), committed(1, 1)]));
  });

  test('a closed journal refuses records', async () => {
    const { journal } = await Journal.open(newPath());
    await journal.close();
    await assert.rejects(journal.append(opened(1, 0)), { code: 'INTERNAL', message: /closed/ });
  });

  test('more pending appends than the bound are refused', async () => {
    const { journal } = await Journal.open(newPath());
    const appends = [journal.append(opened(1, 0))];
    for (let step = 1; step <= MAX_PENDING_RECORDS; step++) appends.push(journal.append(committed(1, step)));
    await assert.rejects(journal.append(committed(1, MAX_PENDING_RECORDS + 1)), {
      code: 'INTERNAL',
      message: /pending/,
    });
    await Promise.all(appends);
    await journal.close();
  });

  test('more pending bytes than the bound are refused, and the records accepted before are written', async () => {
    const path = newPath();
    const { journal } = await Journal.open(path);
    const cursor = 'x'.repeat(15 * 1024 * 1024);
    const big = (step: number) => ({ ...committed(1, step), cursor }) as JournalRecord;
    // The first is being written, the others wait.
    const appends = [journal.append(opened(1, 0))];
    const numTaken = Math.floor(MAX_PENDING_BYTES / Buffer.byteLength(encodeRecord(big(1), FIRST_LINK)));
    for (let step = 1; step <= numTaken; step++) appends.push(journal.append(big(step)));
    await assert.rejects(journal.append(big(numTaken + 1)), {
      code: 'INTERNAL',
      message: /B of journal records are pending/u,
    });
    await Promise.all(appends);
    await journal.append(big(numTaken + 1));
    await journal.close();
    assert.equal((await replayJournal(path)).state.step, numTaken + 1);
  });

  test('an abort stops a replay, and a folder in place of the journal is PATH_UNUSABLE', async () => {
    const path = newPath();
    await writeFile(path, text(RUN));
    await assert.rejects(Journal.open(path, { signal: AbortSignal.abort() }), { code: 'ABORTED' });
    await assert.rejects(Journal.open(folder), { code: 'PATH_UNUSABLE' });
  });

  test('two half lines joined by a second writer are found', async () => {
    const path = newPath();
    await writeFile(path, text(RUN).slice(0, -5));
    await appendFile(path, text([committed(1, 4), committed(1, 5)], lastLine(RUN)));
    await assert.rejects(replayJournal(path), { code: 'JOURNAL_CORRUPT', message: /line 6/ });
  });
});

describe('journal state', () => {
  const add = (records: readonly JournalRecord[]) =>
    records.reduce<ReturnType<typeof applyRecord>>(
      (state, record) => (typeof state === 'string' ? state : applyRecord(state, record)),
      EMPTY_JOURNAL_STATE,
    );

  test('an epoch opened at the last commit continues after it and keeps its cursor', () => {
    const state = add([...RUN, opened(2, 3)]);
    assert.ok(typeof state !== 'string');
    assert.equal(state.step, 3);
    assert.deepEqual(state.lastCommit, committed(1, 3));
  });

  test('an epoch opened at an earlier checkpoint repeats the steps and keeps how far the run was', () => {
    const state = add([...RUN, opened(2, 2), committed(2, 3)]);
    assert.ok(typeof state !== 'string');
    assert.deepEqual([state.step, state.furthestStep], [3, 3]);
    const rewound = add([...RUN, opened(2, 2)]);
    assert.ok(typeof rewound !== 'string');
    assert.deepEqual([rewound.step, rewound.furthestStep, rewound.lastCommit], [2, 3, undefined]);
  });

  test('states of workers count from the last epoch on that started from a checkpoint', () => {
    const goesOn = (epoch: number, step: number): JournalRecord =>
      ({ ...opened(epoch, step), goesOn: true }) as JournalRecord;
    const heldSince = (records: readonly JournalRecord[]) => {
      const state = add(records);
      return typeof state === 'string' ? state : state.heldSince;
    };
    assert.equal(heldSince(RUN), 1);
    assert.equal(heldSince([...RUN, goesOn(2, 3), formed(2, 1, 4), goesOn(3, 3), goesOn(4, 2)]), 1);
    assert.equal(heldSince([...RUN, opened(2, 2), formed(2, 1, 3), goesOn(3, 2)]), 2);
  });

  test('a distrusted state stays so in the next epoch, until a generation commits a step with its worker', () => {
    const distrusted = (records: readonly JournalRecord[]) => {
      const state = add(records);
      return typeof state === 'string' ? state : [...state.distrusted.keys()];
    };
    const goesOn = { ...opened(2, 3), goesOn: true } as JournalRecord;
    const differs: JournalRecord[] = [...RUN, { kind: 'states-distrusted', epoch: 1, workerIds: ['w0', 'w9'] }];
    assert.deepEqual(
      distrusted([...differs, committed(1, 4)]),
      ['w0', 'w9'],
      'the step in which they differed is committed',
    );
    assert.deepEqual(distrusted([...differs, goesOn, formed(2, 1, 4)]), ['w0', 'w9']);
    assert.deepEqual(distrusted([...differs, goesOn, formed(2, 1, 4), committed(2, 4)]), ['w9']);
    assert.deepEqual(distrusted([...differs, opened(2, 2)]), [], 'all load the checkpoint');
  });

  test('the spoilt steps of a generation stay so in the next epoch, until another generation is formed', () => {
    const goodUntil = (records: readonly JournalRecord[]) => {
      const state = add(records);
      return typeof state === 'string' ? state : state.goodUntil;
    };
    const goesOn = { ...opened(2, 3), goesOn: true } as JournalRecord;
    const spoilt = (step: number): JournalRecord => ({
      ...{ kind: 'states-distrusted', epoch: 1, workerIds: ['w0'] },
      goodUntil: step,
    });
    assert.equal(goodUntil(RUN), Infinity);
    assert.equal(goodUntil([...RUN, spoilt(4), spoilt(5)]), 4);
    assert.equal(goodUntil([...RUN, spoilt(4), goesOn]), 4);
    assert.equal(goodUntil([...RUN, spoilt(4), goesOn, formed(2, 1, 4)]), Infinity);
    assert.equal(goodUntil([...RUN, spoilt(4), opened(2, 2)]), Infinity, 'all load the checkpoint');
  });

  const refused: readonly (readonly [string, readonly JournalRecord[], RegExp])[] = [
    ['an epoch opened twice', [opened(1, 0), opened(1, 0)], /epoch 1 opened after epoch 1/],
    ['an epoch opened ahead of the commits', [...RUN, opened(2, 4)], /opened at step 4.*last committed step is 3/],
    ['a record of an old epoch', [...RUN, opened(2, 3), committed(1, 4)], /epoch 1 while epoch 2/],
    ['a step committed twice', [...RUN, committed(1, 3)], /step 3 committed after step 3/],
    ['a generation formed twice', [...RUN, formed(1, 1, 4)], /generation 1 formed after generation 1/],
    ['a checkpoint of the future', [...RUN, published(4)], /checkpoint of step 4/],
    [
      'a commit after the end',
      [...RUN, { kind: 'run-finished', epoch: 1, step: 3 }, committed(1, 4)],
      /after epoch 1 was finished/,
    ],
    [
      'an end at another step',
      [...RUN, { kind: 'run-interrupted', epoch: 1, step: 2, reason: 'SIGTERM' }],
      /at step 2/,
    ],
  ];
  for (const [name, records, message] of refused)
    test(`${name} is refused`, () => {
      const state = add(records);
      assert.ok(typeof state === 'string');
      assert.match(state, message);
    });
});
