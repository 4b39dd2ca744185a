/** docs/logs.md names what is logged: the messages found in the source, and the fields of records that real coordinators make. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Coordinator } from '../coordinator/coordinator.ts';
import { NO_LOCAL_WORKERS } from '../coordinator/membership/worker-host.ts';
import { Journal } from '../coordinator/journal/journal.ts';
import { ScriptedWorker, type Script } from '../coordinator/testing/scripted-worker.fixture.ts';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { systemClock } from '../shared/clock.ts';
import { toTrainerError } from '../shared/errors.ts';
import { createLogger, type LogRecord } from '../shared/logger.ts';
import { MemoryTransport } from '../shared/transport/memory-transport.ts';
import { codeSpans, listFiles, readText, tableRows } from './markdown.ts';

const LOGS = 'docs/logs.md';
const TOKEN = 'the token of the test';
const HASH = 'cd'.repeat(32);
const OF_EVERY_RECORD = ['level', 'time', 'msg'];
/** Fields that these runs do not have. */
const OPTIONAL: Readonly<Record<string, readonly string[]>> = {
  'step committed': ['clippedGradNorm'],
  'run finished': ['interrupted'],
};
const TASK = {
  name: 'a',
  kind: 'supervised' as const,
  numExamples: 40,
  inputsLength: () => 3,
  targetsLength: () => 2,
};

/** msg → documented fields, dotted where they are nested. */
function documentedFields(): Map<string, string[]> {
  const rows = tableRows(LOGS, 'coordinator.jsonl').filter((cells) => cells.length === 4);
  const fields = new Map(rows.map(([msg, , names]) => [codeSpans(msg!)[0]!, codeSpans(names!)]));
  for (const msg of fields.keys())
    for (const heading of [`\`${msg}\``, '`run finished` and `run interrupted`'])
      if (heading.includes(`\`${msg}\``))
        fields.get(msg)!.push(...tableRows(LOGS, heading).map(([name]) => codeSpans(name!)[0]!));
  return fields;
}

/** Field names of a record, times of phases dotted; names of tasks are data. */
function fieldsOf(record: LogRecord): string[] {
  const names = Object.entries(record).flatMap(([name, value]) =>
    name === 'ms' && typeof value === 'object' ? Object.keys(value!).map((phase) => `ms.${phase}`) : [name],
  );
  return names.filter((name) => !OF_EVERY_RECORD.includes(name)).sort();
}

/** The records of a run of scripted workers. @param act is told each record's msg */
async function recordRun(
  script: Partial<Script>,
  act: (msg: string, coordinator: Coordinator, worker: ScriptedWorker) => void,
): Promise<LogRecord[]> {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-logs-'));
  try {
    const { journal } = await Journal.open(join(folder, 'journal'));
    await journal.append({ kind: 'run-opened', epoch: 1, configHash: 'c0', seed: 1, mixtureHash: HASH, step: 0 });
    const transport = new MemoryTransport();
    const records: LogRecord[] = [];
    const joined: { worker?: ScriptedWorker } = {};
    const coordinator: Coordinator = new Coordinator({
      config: checkConfig(
        {
          name: 'logs',
          model: {},
          featureLengths: { inputs: 16, targets: 8 },
          mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 64 },
          training: { steps: 4, rowsPerStep: 2, numLanes: 2, microbatchRows: 1 },
          schedule: { kind: 'constant', value: 0.01 },
          cluster: { heartbeatIntervalMs: 10, heartbeatTimeoutMs: 5_000, plansAhead: 1, rendezvousTimeoutMs: 300 },
          checkpoint: { everySteps: 1, keepLast: 1 },
        },
        'the test',
      ),
      opening: { runId: 'r', epoch: 1, start: { step: 0, rateChanges: [], notes: [] }, before: undefined },
      mixture: { folder, hash: HASH, tasks: [TASK], sizes: [TASK], taskNames: ['a'] } as unknown as PreparedMixture,
      stores: {
        runFolder: folder,
        checkpoints: {
          begin: () => Promise.resolve(folder),
          discard: () => Promise.resolve(),
          publish: ({ step, paramDigest }) =>
            Promise.resolve({ path: join(folder, `step-${step}`), step, bytes: 1, paramDigest }),
          prune: (step) => Promise.resolve(step > 1 ? [{ step: step - 1, reason: 'older than the newest 1' }] : []),
        },
        journal,
        ledger: { append: () => Promise.resolve() },
        diskSpace: undefined,
      },
      workerHost: NO_LOCAL_WORKERS,
      token: TOKEN,
      transport,
      runtime: {
        clock: systemClock,
        log: createLogger({
          onRecord: (record) => {
            records.push(record);
            if (joined.worker !== undefined) act(record.msg, coordinator, joined.worker);
          },
        }),
      },
    });
    const url = await coordinator.listen(0);
    const ended = coordinator.run(new AbortController().signal).catch(toTrainerError);
    joined.worker = await ScriptedWorker.join(transport, url, TOKEN, {
      workerId: 'w0',
      tasks: [TASK],
      mixtureHash: HASH,
      ...script,
    });
    await ended;
    await journal.close();
    return records;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('docs/logs.md', () => {
  const documented = documentedFields();
  const records: LogRecord[] = [];

  before(async () => {
    const finished = await recordRun({}, () => undefined);
    const interrupted = await recordRun({}, (msg, coordinator) => {
      if (msg === 'step committed') coordinator.requestStop('SIGTERM');
    });
    const failed = await recordRun({}, (msg, _coordinator, worker) => {
      if (msg === 'step committed') worker.die();
    });
    records.push(...finished, ...interrupted, ...failed);
  });
  after(() => records.splice(0));

  for (const msg of ['step committed', 'checkpoint published', 'run finished'])
    test(`${msg}: exactly the fields that are logged`, () => {
      const record = records.find((candidate) => candidate.msg === msg);
      assert.ok(record !== undefined, `a run logs ${msg}`);
      const expected = documented.get(msg)!.filter((field) => !(OPTIONAL[msg] ?? []).includes(field));
      assert.deepEqual(fieldsOf(record), expected.sort());
    });

  test('no record of a finished, an interrupted or a failed run has a field that is not there', () => {
    for (const msg of ['run interrupted', 'run failed', 'survivors asked to save', 'run is to stop'])
      assert.ok(
        records.some((record) => record.msg === msg),
        msg,
      );
    const missing = records.flatMap((record) =>
      fieldsOf(record)
        .filter((field) => documented.get(record.msg)?.includes(field) !== true)
        .map((field) => `${record.msg}: ${field}`),
    );
    assert.deepEqual([...new Set(missing)], []);
  });

  test('the messages are those that stand in the source', () => {
    const sources = (room: string): string =>
      listFiles(room)
        .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
        .map(readText)
        .join('\n');
    assert.deepEqual(
      logged(sources('coordinator') + sources('cli') + sources('shared')),
      [...documented.keys()].sort(),
    );
    const ofWorkers = tableRows(LOGS, 'Worker logs').map(([msg]) => codeSpans(msg!)[0]!);
    assert.deepEqual(logged(sources('worker') + sources('shared')), ofWorkers.sort());
  });
});

/** Constant texts of all log calls in a source, but for those at level debug. */
function logged(source: string): string[] {
  const calls = source.matchAll(/\blog(?:\.(?:info|warn|error)|\[level\])\(/gu);
  const texts = [...calls].flatMap((call) =>
    [...lastArgument(source, call.index + call[0].length).matchAll(/'([^']+)'/gu)].map((found) => found[1]!),
  );
  return [...new Set(texts)].sort();
}

/** The last argument of a call whose arguments begin at `start`. */
function lastArgument(source: string, start: number): string {
  let depth = 1;
  const commas = [start];
  let at = start;
  for (; depth > 0; at++) {
    const character = source[at]!;
    if ('([{'.includes(character)) depth++;
    else if (')]}'.includes(character)) depth--;
    else if (character === ',' && depth === 1) commas.push(at);
  }
  const texts = commas.map((comma, i) => source.slice(comma, commas[i + 1] ?? at - 1));
  return texts.findLast((text) => text.includes("'")) ?? '';
}
