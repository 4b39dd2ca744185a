/** Runs `exmix prepare` in real processes against a mock hub: interruptions do not change a byte, and failures are reported plainly. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { C4_TASK, HUB_TASKS, startExmixHub, type ExmixHub } from '../mixture/prepare/exmix-hub.fixture.ts';
import { listEvaluationSets, readEvaluationSet } from '../mixture/evaluation-sets/read-evaluation-sets.ts';
import type { EvaluationSetInfo } from '../mixture/evaluation-sets/set-record.ts';
import type { ShardReport } from '../mixture/prepare/prepare-mixture.ts';
import type { PrepareOutlook } from '../mixture/prepare/prepare-outlook.ts';
import { hashName, RandomStream } from '../shared/random.ts';
import { exmix, startExmix, temporaryFolder, type RunningExmix } from './exmix-process.ts';

const TOKENIZER = fileURLToPath(new URL('../golden/sentencepiece/spiece.model', import.meta.url));
/** Programs of the system. Without them, or without the right to mount, one test is skipped. */
const [MOUNT, UNMOUNT] = ['mount', 'umount'];
const ROWS_PER_TASK = 240;
const NUM_KILLS = 5;

const home = temporaryFolder();
let hub: ExmixHub;
before(async () => {
  hub = await startExmixHub(ROWS_PER_TASK);
});
after(() => hub.close());

/** Arguments of prepare. Unusable rows are counted and do not fail it. */
function args(outDir: string, tasks: readonly string[], ...more: string[]): string[] {
  const lengths = ['--inputs-length', '64', '--targets-length', '32'];
  const source = ['--mixture', 'exmix', '--tasks', tasks.join(','), '--tokenizer', TOKENIZER, '--hub-url', hub.url];
  const rules = ['--unit-bytes', '1024', '--bad-row-threshold', '1'];
  return ['prepare', ...source, ...lengths, ...rules, '--out', outDir, '--json', ...more];
}

const ALL = [...HUB_TASKS, C4_TASK];
const parse = (stdout: string) =>
  JSON.parse(stdout) as ShardReport & { readonly evaluationSets?: readonly EvaluationSetInfo[] };

function contentOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name)).sort();
  return new Map(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, 'latin1')]));
}

/** Names in a folder; none if it is missing. */
const namesIn = (folder: string) => (existsSync(folder) ? readdirSync(folder) : []);
const numUnits = (folder: string) =>
  namesIn(folder).flatMap((task) =>
    task.endsWith('.json') ? [] : namesIn(join(folder, task)).filter((name) => name.startsWith('unit-')),
  ).length;

/** Polls the condition until it holds or the process ends. */
async function until(condition: () => boolean, process: RunningExmix): Promise<void> {
  while (!condition() && process.child.exitCode === null && process.child.signalCode === null) await delay(5);
}

describe('sixteen tasks of ExMix and C4 from a hub', () => {
  const undisturbed = join(home, 'undisturbed');
  let expected: ReturnType<typeof parse>;
  before(async () => {
    const { code, stdout, stderr } = await exmix(args(undisturbed, ALL, '--processes', '2'), home);
    assert.equal(code, 0, stderr);
    expected = parse(stdout);
  });

  test('have examples in every task, account for every row and token, and can be opened', async () => {
    const tasks = expected.finished!.tasks;
    assert.deepEqual(tasks.map(({ name }) => name).sort(), [...ALL].sort());
    for (const { name, manifest } of tasks) {
      const { numRows, leftOutRows, malformed, numExamples, identity, tokensIn, numTokens, droppedTokens } = manifest;
      assert.equal(numRows, name === C4_TASK ? 3 * ROWS_PER_TASK : ROWS_PER_TASK, name);
      assert.ok(numExamples > 0 && leftOutRows + malformed.numRows < numRows, name);
      if (name === C4_TASK) assert.equal(tokensIn, numTokens + droppedTokens.longDocuments + droppedTokens.remainder);
      assert.match(identity.source.origin?.revision ?? '', /^[0-9a-f]{40}$/u, name);
    }
    assert.ok(tasks.filter(({ manifest }) => manifest.numUnits > 1).length > 8, 'most tasks have several units');
    const opened = await openPreparedMixture(undisturbed);
    assert.equal(opened.hash, expected.finished!.hash);
    opened.close();
  });

  test('have evaluation sets of all splits that they declare, of the hub or cut out of train', async () => {
    const sets = await listEvaluationSets(undisturbed);
    const names = sets.map(({ task, split, name }) => `${task} ${split} ${name}`);
    assert.deepEqual(
      expected.evaluationSets?.map(({ hash }) => hash),
      sets.map(({ hash }) => hash),
    );
    for (const name of ALL)
      assert.ok(
        names.some((set) => set.startsWith(`${name} validation `)),
        name,
      );
    assert.ok(names.includes('glue_mnli validation validation_mismatched') && names.includes('imdb test test'));
    const imdb = sets.find(({ task, split }) => task === 'imdb' && split === 'validation')!;
    const { manifest } = expected.finished!.tasks.find(({ name }) => name === 'imdb')!;
    assert.deepEqual([imdb.cut, imdb.numExamples], [20, manifest.heldOutRows]);
    assert.equal(manifest.numExamples + imdb.numExamples, ROWS_PER_TASK);
    for (const set of sets) assert.equal((await readEvaluationSet(undisturbed, set)).length, set.numExamples);
  });

  test('have the same bytes after five SIGKILLs at random moments', async () => {
    const outDir = join(home, 'killed');
    const random = new RandomStream([hashName('e2e-prepare-kills')]);
    const total = numUnits(undisturbed);
    let before = 0;
    for (let kill = 0; kill < NUM_KILLS; kill++) {
      const running = startExmix(args(outDir, ALL, '--processes', '2'), home);
      // At least one unit more than before, and up to a sixth of all.
      const goal = before + 1 + random.nextBelow(Math.floor(total / (NUM_KILLS + 1)));
      await until(() => numUnits(outDir) >= goal, running);
      running.child.kill('SIGKILL');
      await running.ended;
      assert.equal(running.child.signalCode, 'SIGKILL', `kill ${kill} came in time`);
      assert.ok(!existsSync(join(outDir, 'mixture.json')));
      const now = numUnits(outDir);
      assert.ok(now > before && now < total, `${now} of ${total} units after kill ${kill}`);
      before = now;
    }
    const { code, stdout, stderr } = await exmix(args(outDir, ALL, '--processes', '2'), home);
    assert.equal(code, 0, stderr);
    const report = parse(stdout);
    // Children of the last killed parent may have finished a unit each after it was counted.
    assert.ok(report.unitsMade <= total - before && report.unitsMade >= total - before - 2, 'no unit is made twice');
    assert.equal(report.finished?.hash, expected.finished!.hash);
    assert.deepEqual(contentOf(outDir), contentOf(undisturbed));
  });

  test('have the same bytes from three members of a job array, and only the first asks the hub for listings', async () => {
    const outDir = join(home, 'shards');
    const reports: ShardReport[] = [];
    for (const shard of ['1/3', '2/3', '3/3']) {
      const listings = () => hub.requests.filter((request) => /\/(tree|revision)\//u.test(request)).length;
      const asked = listings();
      const { code, stdout, stderr } = await exmix(args(outDir, ALL, '--shard', shard, '--splits', 'none'), home);
      assert.equal(code, 0, stderr);
      reports.push(parse(stdout));
      if (shard !== '1/3') assert.equal(listings(), asked, 'later members use the plan of the first');
    }
    assert.deepEqual(
      reports.map(({ missing, finished }) => [missing.length > 0, finished?.hash]),
      [
        [true, undefined],
        [true, undefined],
        [false, expected.finished!.hash],
      ],
    );
    const made = reports.map(({ unitsMade }) => unitsMade);
    assert.ok(Math.max(...made) - Math.min(...made) <= 1, `dealt evenly: ${made.join(', ')}`);
    // A folder that was made without evaluation sets gets them, and nothing else changes.
    assert.ok(!existsSync(join(outDir, 'evaluation')));
    assert.equal((await exmix(args(outDir, ALL), home)).code, 0);
    assert.deepEqual(contentOf(outDir), contentOf(undisturbed));
  });

  test('have the same bytes from one process', async () => {
    const outDir = join(home, 'alone');
    const { stdout } = await exmix(args(outDir, ALL, '--processes', '1'), home);
    assert.equal(parse(stdout).finished?.hash, expected.finished!.hash);
    assert.deepEqual(contentOf(outDir), contentOf(undisturbed));
  });

  test('SIGTERM ends prepare and its processes in order, with the status of an interrupt', async () => {
    const outDir = join(home, 'terminated');
    const running = startExmix(args(outDir, ALL, '--processes', '2'), home);
    await until(() => numUnits(outDir) >= 3, running);
    running.child.kill('SIGTERM');
    const { code, stderr } = await running.ended;
    assert.equal(code, 130, stderr);
    assert.match(stderr, /ABORTED: preparing was aborted/u);
    const left = readdirSync(outDir, { recursive: true, encoding: 'utf8' });
    assert.deepEqual(
      left.filter((path) => path.includes('.partial-')),
      [],
    );
  });

  test('a dry run reports units, sizes and free disk space, and makes no unit', async () => {
    const outDir = join(home, 'dry');
    const { code, stdout, stderr } = await exmix(args(outDir, ALL, '--dry-run'), home);
    assert.equal(code, 0, stderr);
    const outlook = JSON.parse(stdout) as PrepareOutlook;
    assert.equal(
      outlook.tasks.reduce((sum, { unitsToMake }) => sum + unitsToMake, 0),
      numUnits(undisturbed),
    );
    assert.ok(outlook.freeBytes > outlook.roomBytes && outlook.roomBytes > 0);
    assert.ok(!existsSync(outDir));
  });

  test('a full disk fails with DISK_FULL, and finished units stay valid', async (t) => {
    const mount = join(home, 'small-disk');
    mkdirSync(mount);
    const made = spawnSync(MOUNT, ['-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', mount]);
    if (made.status !== 0) {
      t.skip('no small disk can be mounted here; mixture/prepare/ensure-unit.test.ts does the same with a fake disk');
      return;
    }
    try {
      const full = await exmix(args(join(mount, 'out'), ALL, '--processes', '2'), home);
      assert.equal(full.code, 4, full.stderr);
      assert.match(full.stderr, /DISK_FULL: /u);
      const finished = numUnits(join(mount, 'out'));
      assert.ok(finished > 0);
      assert.equal(spawnSync(MOUNT, ['-o', 'remount,size=64m', mount]).status, 0);
      const again = await exmix(args(join(mount, 'out'), ALL, '--processes', '2'), home);
      assert.equal(again.code, 0, again.stderr);
      const kept = parse(again.stdout).finished!.tasks.reduce((sum, { unitsKept }) => sum + unitsKept, 0);
      assert.equal(kept, finished);
      assert.deepEqual(contentOf(join(mount, 'out')), contentOf(join(home, 'undisturbed')));
    } finally {
      spawnSync(UNMOUNT, [mount]);
    }
  });
});

describe('a hub that', () => {
  const prepareOne = (name: string, task: string, ...more: string[]) =>
    exmix(args(join(home, name), [task], '--processes', '1', '--splits', 'none', ...more), home);

  test('moved a revision after the mixture was finished: the task is prepared again', async () => {
    const { dataset, path } = hub.fileOf('imdb');
    const first = await prepareOne('moved', 'imdb');
    assert.equal(first.code, 0, first.stderr);
    const content = hub.fileOf('rainbow_hellaswag').content; // another dataset, without the columns of imdb
    const before = hub.fileOf('imdb').content;
    hub.commit(dataset, { [path]: content }, 'refs/convert/parquet');
    const second = await prepareOne('moved', 'imdb');
    assert.equal(second.code, 2, second.stderr);
    assert.match(second.stderr, /CONFIG_INVALID: .*imdb[^]*column[^]*(text|label)/u);
    hub.commit(dataset, { [path]: before, 'added.txt': 'x' }, 'refs/convert/parquet');
    const third = await prepareOne('moved', 'imdb');
    assert.equal(third.code, 0, third.stderr);
    const report = parse(third.stdout).finished!.tasks[0]!;
    assert.deepEqual([report.outcome, report.unitsKept], ['prepared', 0]);
    assert.equal(report.manifest.identity.source.origin?.revision, hub.commitOf(dataset, 'refs/convert/parquet'));
  });

  for (const [status, code, exitCode] of [
    [401, 'STORAGE_DENIED', 2],
    [403, 'STORAGE_DENIED', 2],
    [404, 'NAME_UNKNOWN', 2],
  ] as const)
    test(`answers ${status}: prepare fails at once with ${code}, names the task and makes no unit`, async () => {
      hub.fault({ status, match: 'super_glue', times: 1 });
      const outDir = join(home, `status-${status}`);
      const ended = await exmix(args(outDir, ['super_glue_copa', 'dpr']), home);
      assert.match(ended.stderr, new RegExp(`${code}: [^]*task super_glue_copa: `, 'u'));
      assert.equal(ended.code, exitCode, ended.stderr);
      assert.equal(numUnits(outDir), 0);
    });

  test('sends bytes with a wrong checksum: prepare names the file and stores no unit', async () => {
    const sha256 = createHash('sha256').update(hub.fileOf('gem_dart').content).digest('hex');
    hub.fault({ corrupt: true, match: `/cdn/${sha256}`, times: 1_000 });
    const freshHome = temporaryFolder(); // without earlier downloads
    const outDir = join(home, 'corrupt');
    const ended = await exmix(args(outDir, ['gem_dart']), freshHome);
    assert.equal(ended.code, 3, ended.stderr);
    assert.match(ended.stderr, /gem_dart[^]*0000\.parquet/u);
    assert.equal(numUnits(outDir), 0);
  });

  test('answers 429 and 503 now and then: the task is prepared', async () => {
    hub.fault({ status: 429, match: 'glue', times: 1, retryAfter: 0 });
    hub.fault({ status: 503, match: '/cdn/', times: 2 });
    const ended = await prepareOne('unsteady', 'glue_stsb');
    assert.equal(ended.code, 0, ended.stderr);
  });

  test('serves a truncated parquet file: prepare names the task, and succeeds when the file is whole', async () => {
    const { dataset, path, content } = hub.fileOf('squad_v1');
    hub.commit(dataset, { [path]: content.subarray(0, content.length - 100) }, 'refs/convert/parquet');
    const outDir = join(home, 'truncated');
    const ended = await exmix(args(outDir, ['squad_v1'], '--splits', 'none'), home);
    assert.equal(ended.code, 3, ended.stderr);
    assert.match(ended.stderr, /SOURCE_UNREADABLE: [^]*squad_v1[^]*0000\.parquet/u);
    hub.commit(dataset, { [path]: content }, 'refs/convert/parquet');
    const again = await exmix(args(outDir, ['squad_v1'], '--splits', 'none'), home);
    assert.equal(again.code, 0, again.stderr);
  });
});

test('contradictory and malformed flags are rejected', async () => {
  for (const [flags, message] of [
    [['--shard', '4/3'], /--shard: expected i\/n/u],
    [['--shard', '1/3', '--merge'], /--merge and --shard/u],
    [['--processes', '0'], /processes: expected a whole number/u],
  ] as const) {
    const { code, stderr } = await exmix(args(join(home, 'never'), ['imdb'], ...flags), home);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
  assert.ok(!existsSync(join(home, 'never')));
});
