import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { auditLedger } from './audit.ts';
import { openSession } from './ledger.fixture.ts';

const CHILD = fileURLToPath(new URL('./crash-child.fixture.ts', import.meta.url));

/** Starts the child and kills it once its output matches. @returns the last step that it printed as committed */
async function runAndKill(folder: string, killAt: RegExp): Promise<number> {
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
    if (killAt.test(printed)) child.kill('SIGKILL');
  });
  const signal = await new Promise((resolve) => child.once('close', (_, name) => resolve(name)));
  assert.equal(signal, 'SIGKILL', 'the fault fired');
  return Number(/committed (\d+)\n(?!.*committed)/su.exec(printed)?.[1] ?? 0);
}

test('after repeated kills between ledger and journal, the ledger holds every committed step once and no other', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'exmix-ledger-crash-'));
  try {
    let committed = 0;
    // The kill arrives after the record and before its commit, or during a later step.
    for (const killAt of [/recorded 3\n/u, /recorded 9\n/u, /committed 14\n/u, /recorded 22\n/u]) {
      const said = await runAndKill(folder, killAt);
      assert.ok(said > committed, 'the child went on');
      const report = await auditLedger({ runFolder: folder });
      assert.deepEqual(report.violations, [], 'as the kill left it');
      assert.ok(report.to >= said, 'what was acknowledged is there');
      committed = report.to;
    }
    const last = await openSession(folder);
    await last.train(committed + 20);
    await last.stop('in order');
    const report = await auditLedger({ runFolder: folder });
    assert.deepEqual([report.numViolations, report.to, report.sessions.length], [0, committed + 20, 5]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
