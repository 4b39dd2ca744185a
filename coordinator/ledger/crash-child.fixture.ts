/** The commits of a coordinator, in a process for tests to kill. Argument: the run folder. Prints a line for each record and commit. */
import { dealt, openSession, recordOf } from './ledger.fixture.ts';

const run = await openSession(process.argv[2]!);
for (let step = run.journal.state.step + 1; ; step++) {
  const record = recordOf(step);
  const { fingerprint, window, row } = dealt(step).cursor;
  await run.ledger.append(record);
  process.stdout.write(`recorded ${step}\n`);
  const { generation, gradDigest, loss } = record;
  const ids = { epoch: run.epoch, generation, step };
  await run.journal.append({ kind: 'step-committed', ...ids, cursor: { fingerprint, window, row }, gradDigest, loss });
  process.stdout.write(`committed ${step}\n`);
}
