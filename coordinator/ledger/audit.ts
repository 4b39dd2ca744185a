/**
 * Proves from the ledger that each example was trained on exactly once in each epoch of its task, over a range of steps, and that ledger
 * and journal say the same. Trusts the plan in nothing: the rows are those that were dealt, and where a window of the plan ended the
 * journal says (its cursors); what a window must hold follows from the draws themselves (task-audit.ts).
 *
 * Also checked: every byte by its CRC-32, full segments by their SHA-256, and the chain of segments. Reads each segment once, a second
 * time only to name the steps of what came twice. Memory: 32 B a commit, one segment, one bit an example of each epoch under way.
 */
import { basename } from 'node:path';
import { throwIfAborted } from '../../shared/abort.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { runPaths } from '../run-folder/run-folder.ts';
import { decodeSteps, type RecordedStep } from './ledger-reader.ts';
import { readRunHistory, type RunHistory } from './run-history.ts';
import { listKeptSegments, readSegmentBytes } from './segment-files.ts';
import { parseSegment, sha256Of, type ParsedSegment, type SegmentHeader } from './segment-format.ts';
import { CommitCheck } from './commit-check.ts';
import { TaskAudit, type AuditedTask, type Beginning } from './task-audit.ts';
import { MAX_LISTED, Violations, type Violation } from './violations.ts';

/** Bitmaps of all epochs under way. */
const MAX_BITMAP_BYTES = 1024 * 1024 * 1024;

export interface AuditReport {
  readonly runFolder: string;
  readonly from: number;
  readonly to: number;
  readonly numExamples: number;
  readonly numSegments: number;
  readonly sessions: RunHistory['sessions'];
  readonly tasks: readonly AuditedTask[];
  readonly numViolations: number;
  readonly violations: readonly Violation[];
  /** The most that the bitmaps took. */
  readonly bitmapBytes: number;
}

export interface AuditInit {
  readonly runFolder: string;
  /** First and last step; default: all that are committed. */
  readonly from?: number;
  readonly to?: number;
  readonly signal?: AbortSignal;
}

/** @throws PATH_UNUSABLE where there is no run or no ledger, CONFIG_INVALID for a range the run has not committed, JOURNAL_CORRUPT, ABORTED */
export async function auditLedger(init: AuditInit): Promise<AuditReport> {
  const paths = runPaths(init.runFolder);
  const history = await readRunHistory(paths.journal, init.signal);
  const { from = history.firstStep, to = history.lastStep } = init;
  if (!history.hasStep(from) || !history.hasStep(to) || from > to)
    throw new TrainerError(
      'CONFIG_INVALID',
      `--from ${from} --to ${to}: expected a range inside the committed steps ${history.firstStep} to ${history.lastStep} of ${paths.folder}`,
    );
  const audit = new Audit(history, from, to);
  const files = await listKeptSegments(paths);
  for (const [i, { path, number }] of files.entries()) {
    throwIfAborted(init.signal, `auditing ${paths.folder}`);
    audit.takeSegment(path, number, await readSegmentBytes(path), i === files.length - 1);
  }
  audit.finish();
  if (audit.repeated.size > 0) for (const { path } of files) audit.findRepeated(path, await readSegmentBytes(path));
  return {
    runFolder: paths.folder,
    from,
    to,
    numSegments: files.length,
    sessions: history.sessions,
    ...audit.report(),
  };
}

/** What the rows of a range add up to. */
class Audit {
  readonly #history: RunHistory;
  readonly #from: number;
  readonly #to: number;
  readonly #tasks = new Map<string, TaskAudit>();
  readonly #violations = new Violations();
  readonly #commits: CommitCheck;
  #numExamples = 0;
  #bitmapBytes = 0;
  /** SHA-256 of the segment before. */
  #previous: string | null = null;
  #previousNumber = 0;
  #epoch = 0;
  #window: number | undefined;
  /** What came twice, by key, with the steps in which it did. */
  readonly repeated = new Map<string, number[]>();

  constructor(history: RunHistory, from: number, to: number) {
    this.#history = history;
    this.#from = from;
    this.#to = to;
    this.#commits = new CommitCheck(history, from, to, this.#violations);
    const isStart = from === 1 && history.firstStep === 1;
    this.#window = isStart ? 0 : this.#commitBefore(from)?.window;
  }

  takeSegment(path: string, number: number, bytes: Buffer, isNewest: boolean): void {
    const segment = parseSegment(bytes);
    const name = basename(path);
    if (number !== this.#previousNumber + 1)
      this.#tellDamage(`segments ${this.#previousNumber + 1} to ${number - 1} are missing`);
    else if (typeof segment !== 'string' && segment.header.previous !== this.#previous)
      this.#tellDamage(`the segment before ${name} is not the one it was written after`);
    this.#previousNumber = number;
    this.#previous = sha256Of(bytes).toString('hex');
    if (typeof segment === 'string') {
      this.#tellDamage(`${name}: ${segment}`);
      return;
    }
    const { damage, isSealed } = segment;
    // The run may be writing to its newest segment now, or was killed while it did.
    if (!isNewest && !isSealed) this.#tellDamage(`${name}: ${damage ?? 'it was never sealed'}`);
    this.#takeRecords(path, segment, isNewest);
  }

  #takeRecords(path: string, segment: ParsedSegment, isNewest: boolean): void {
    const { header, records, isSealed } = segment;
    const last = header.firstStep + records.length - 1;
    const session = this.#history.session(header.epoch);
    const isKept = (step: number): boolean =>
      session !== undefined && step > session.startStep && step <= session.keptStep;
    const withRows = last >= this.#from && header.firstStep <= Math.min(this.#to, session?.keptStep ?? 0);
    try {
      for (const step of decodeSteps(path, segment, withRows)) {
        this.#commits.take(step, header.epoch, isNewest && !isSealed);
        if (withRows && isKept(step.step) && step.step >= this.#from && step.step <= this.#to) this.#takeRows(step);
      }
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      if (code !== 'LEDGER_CORRUPT') throw thrown;
      this.#tellDamage(`${basename(path)}: ${message}`);
    }
  }

  #takeRows(step: RecordedStep): void {
    const { header, lanes } = step;
    const audits = this.#auditsOf(header);
    if (this.#epoch !== 0 && header.epoch !== this.#epoch)
      for (const audit of this.#tasks.values()) audit.beginSession();
    this.#epoch = header.epoch;
    const { window, row: rowsOfWindow } = this.#history.commit(step.epoch, step.step)!;
    const rows = lanes.flat();
    // The rows of the window that the cursor stands in are the step's last ones; those before belong to windows that are over.
    const boundary = this.#window !== undefined && window > this.#window ? rows.length - rowsOfWindow : -1;
    for (const [i, row] of rows.entries()) {
      if (i === boundary) this.#closeWindow(step.step);
      for (const { task, index, epoch, draw } of row) {
        const finding = audits[task]!.take(index, epoch, draw);
        if (finding !== undefined) this.#tellExample(finding, header.tasks[task]![0], epoch, index, step.step);
      }
      this.#numExamples += row.length;
    }
    if (boundary === rows.length) this.#closeWindow(step.step);
    this.#window = window;
    this.#bitmapBytes = Math.max(
      this.#bitmapBytes,
      [...this.#tasks.values()].reduce((sum, audit) => sum + audit.bitmapBytes, 0),
    );
    if (this.#bitmapBytes > MAX_BITMAP_BYTES)
      throw new TrainerError(
        'LEDGER_CORRUPT',
        `step ${step.step}: more epochs are under way than ${MAX_BITMAP_BYTES} B of bitmaps hold; audit a shorter range by --from and --to`,
      );
  }

  #auditsOf(header: SegmentHeader): TaskAudit[] {
    return header.tasks.map(([name, numExamples], task) => {
      const key = JSON.stringify([name, numExamples]);
      const known = this.#tasks.get(key);
      if (known !== undefined) return known;
      const beginning = this.#beginningOf(header, header.bases[task]!, numExamples);
      const audit = new TaskAudit(header.seed, { name, numExamples }, beginning);
      this.#tasks.set(key, audit);
      return audit;
    });
  }

  #beginningOf(header: SegmentHeader, base: number, numExamples: number): Beginning {
    // A task that came later, or with another size, begins with an epoch.
    if (this.#epoch !== 0) return { kind: base % numExamples === 0 ? 'known' : 'inside', from: base };
    const isSessionStart = this.#from === header.from.step + 1;
    if (isSessionStart && !header.from.isInsideWindow) return { kind: 'known', from: base };
    return { kind: this.#commitBefore(this.#from)?.row === 0 ? 'boundary' : 'inside' };
  }

  #commitBefore(step: number) {
    const session = this.#history.sessionOf(step - 1);
    return session === undefined ? undefined : this.#history.commit(session.epoch, step - 1);
  }

  #closeWindow(step: number): void {
    for (const audit of this.#tasks.values()) {
      const numMissing = audit.closeWindow();
      if (numMissing === 0) continue;
      const { name } = audit.summary();
      const listed = audit.missing(numMissing, MAX_LISTED);
      this.#violations.addUnlisted(numMissing - listed.length);
      for (const { index, epoch } of listed) this.#tellExample('never', name, epoch, index, step);
    }
  }

  #tellExample(
    kind: 'never' | 'twice' | 'early' | 'no such example',
    task: string,
    epoch: number,
    index: number,
    step: number,
  ): void {
    const what = {
      never: `was left out: its window was over by step ${step}`,
      twice: `came a second time in step ${step}`,
      early: `came in step ${step}, but its draw was over before step ${this.#from}`,
      'no such example': `is in step ${step}, but the task has no such example`,
    }[kind];
    const steps = [step];
    if (kind === 'twice' && this.#violations.hasRoom(kind)) this.repeated.set(keyOf(task, epoch, index), steps);
    this.#violations.add({
      kind,
      what: `${task} example ${index} of task epoch ${epoch} ${what}`,
      task,
      epoch,
      index,
      steps,
    });
  }

  #tellDamage(what: string): void {
    this.#violations.add({ kind: 'damaged', what, steps: [] });
  }

  finish(): void {
    this.#commits.finish();
  }

  /** Fills in all steps of what came twice. */
  findRepeated(path: string, bytes: Buffer): void {
    const segment = parseSegment(bytes);
    if (typeof segment === 'string') return;
    for (const { step, epoch: run, lanes, header } of decodeSteps(path, segment, true)) {
      if (this.#history.sessionOf(step)?.epoch !== run || step < this.#from || step > this.#to) continue;
      for (const { task, epoch, index } of lanes.flat(2)) {
        const steps = this.repeated.get(keyOf(header.tasks[task]![0], epoch, index));
        if (steps !== undefined && !steps.includes(step)) steps.push(step);
      }
    }
  }

  report(): Omit<AuditReport, 'runFolder' | 'from' | 'to' | 'numSegments' | 'sessions'> {
    return {
      numExamples: this.#numExamples,
      tasks: [...this.#tasks.values()].map((audit) => audit.summary()),
      numViolations: this.#violations.count,
      violations: this.#violations.list(),
      bitmapBytes: this.#bitmapBytes,
    };
  }
}

function keyOf(task: string, epoch: number, index: number): string {
  return `${task} ${epoch} ${index}`;
}
