/**
 * Proves from the ledger that a range of steps trained on each example exactly once in each epoch of its task, and that ledger and
 * journal agree. Does not use the plan: the rows are the dealt ones, the journal's cursors say where windows of the plan ended, and the
 * draws themselves say what each window must hold (task-audit.ts).
 *
 * Also checks every byte by its CRC-32, each sealed segment by its SHA-256, and the chain of segments. Reads each segment once, and again
 * only to list the steps of repeated examples. Memory: 32 B a commit, one segment, one bit an example of each epoch under way.
 */
import { basename } from 'node:path';
import { throwIfAborted } from '../../shared/abort.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { runPaths } from '../run-folder/run-folder.ts';
import { decodeSteps, type RecordedStep } from './ledger-reader.ts';
import { readRunHistory, type RunHistory } from './run-history.ts';
import { listKeptSegments, readSegmentBytes } from './segment-files.ts';
import { parseSegment, sha256Of, type ParsedSegment, type SegmentHeader } from './segment-format.ts';
import type { StepFigures } from './step-record.ts';
import { TaskAudit, type AuditedTask, type Beginning } from './task-audit.ts';

/** Bitmaps of all epochs under way. */
const MAX_BITMAP_BYTES = 1024 * 1024 * 1024;
/** Listed violations of each kind; the others are only counted. */
const MAX_LISTED = 20;

/** The gravest first. */
const KINDS = [
  'damaged',
  'not recorded',
  'not committed',
  'differs',
  'twice',
  'never',
  'early',
  'no such example',
] as const;
type ViolationKind = (typeof KINDS)[number];

export interface Violation {
  readonly kind: ViolationKind;
  /** One sentence. */
  readonly what: string;
  readonly task?: string;
  /** Of the task. */
  readonly epoch?: number;
  readonly index?: number;
  readonly steps: readonly number[];
}

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
  /** Peak size of the bitmaps. */
  readonly bitmapBytes: number;
}

export interface AuditInit {
  readonly runFolder: string;
  /** First and last step; default: all committed steps. */
  readonly from?: number;
  readonly to?: number;
  readonly signal?: AbortSignal;
}

/**
 * @throws PATH_UNUSABLE without a run or a ledger, CONFIG_INVALID for a range outside the committed steps, JOURNAL_CORRUPT,
 *   LEDGER_CORRUPT for a ledger of an older format or too many epochs under way, ABORTED
 */
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
    audit.addSegment(path, number, await readSegmentBytes(path), i === files.length - 1);
  }
  audit.finish();
  if (audit.repeated.size > 0) for (const { path } of files) audit.findRepeated(path, await readSegmentBytes(path));
  return {
    runFolder: paths.folder,
    from,
    to,
    numSegments: files.length,
    sessions: history.sessions,
    ...audit.result(),
  };
}

class Audit {
  readonly #history: RunHistory;
  readonly #from: number;
  readonly #to: number;
  readonly #tasks = new Map<string, TaskAudit>();
  readonly #violations = new Violations();
  readonly #commits: CommitCheck;
  #numExamples = 0;
  #bitmapBytes = 0;
  /** SHA-256 of the previous segment. */
  #previous: string | null = null;
  #previousNumber = 0;
  #epoch = 0;
  #window: number | undefined;
  /** Listed repeated examples, by key, with their steps. */
  readonly repeated = new Map<string, number[]>();

  constructor(history: RunHistory, from: number, to: number) {
    this.#history = history;
    this.#from = from;
    this.#to = to;
    this.#commits = new CommitCheck(history, from, to, this.#violations);
    const isStart = from === 1 && history.firstStep === 1;
    this.#window = isStart ? 0 : this.#commitBefore(from)?.window;
  }

  addSegment(path: string, number: number, bytes: Buffer, isNewest: boolean): void {
    const segment = parseSegment(bytes);
    const name = basename(path);
    if (number !== this.#previousNumber + 1)
      this.#reportDamage(`segments ${this.#previousNumber + 1} to ${number - 1} are missing`);
    else if (typeof segment !== 'string' && segment.header.previous !== this.#previous)
      this.#reportDamage(`the SHA-256 of the segment before ${name} is not the one that ${name} names`);
    this.#previousNumber = number;
    this.#previous = sha256Of(bytes).toString('hex');
    if (typeof segment === 'string') {
      this.#reportDamage(`${name}: ${segment}`);
      return;
    }
    const { damage, isSealed } = segment;
    // The run may be writing its newest segment now, or was killed while it did.
    if (!isNewest && !isSealed) this.#reportDamage(`${name}: ${damage ?? 'it was never sealed'}`);
    this.#addRecords(path, segment, isNewest);
  }

  #addRecords(path: string, segment: ParsedSegment, isNewest: boolean): void {
    const { header, isSealed } = segment;
    const session = this.#history.session(header.epoch);
    const isKept = (step: number): boolean =>
      session !== undefined && step > session.startStep && step <= session.keptStep;
    try {
      for (const step of decodeSteps(path, segment)) {
        this.#commits.add(step, header.epoch, isNewest && !isSealed);
        if (isKept(step.step) && step.step >= this.#from && step.step <= this.#to) this.#addRows(step);
      }
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      if (code !== 'LEDGER_CORRUPT') throw thrown;
      this.#reportDamage(`${basename(path)}: ${message}`);
    }
  }

  #addRows(step: RecordedStep): void {
    const { header } = step;
    const audits = this.#auditsOf(header);
    if (this.#epoch !== 0 && header.epoch !== this.#epoch)
      for (const audit of this.#tasks.values()) audit.beginSession();
    this.#epoch = header.epoch;
    const { window, row: rowsOfWindow } = this.#history.commit(step.epoch, step.step)!;
    const rows = step.readLanes().flat();
    // The cursor's window holds the last rows of the step; the rows before them belong to windows that ended.
    const boundary = this.#window !== undefined && window > this.#window ? rows.length - rowsOfWindow : -1;
    for (const [i, row] of rows.entries()) {
      if (i === boundary) this.#closeWindow(step.step);
      for (const { task, index, epoch } of row) {
        const finding = audits[task]!.add(index, epoch);
        if (finding !== undefined) this.#reportExample(finding, header.tasks[task]![0], epoch, index, step.step);
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
      const key = JSON.stringify([header.seed, name, numExamples]);
      const known = this.#tasks.get(key);
      if (known !== undefined) return known;
      const beginning = this.#beginningOf(header, header.from.firstDraws[task]!, numExamples);
      const audit = new TaskAudit(header.seed, { name, numExamples }, beginning);
      this.#tasks.set(key, audit);
      return audit;
    });
  }

  #beginningOf(header: SegmentHeader, firstDraw: number, numExamples: number): Beginning {
    // A task that was added later, or changed its size, begins with an epoch.
    if (this.#epoch !== 0) return { kind: firstDraw % numExamples === 0 ? 'known' : 'inside', from: firstDraw };
    const isSessionStart = header.firstStep === header.from.step + 1 && header.firstStep === this.#from;
    if (isSessionStart && !header.from.isInsideWindow) return { kind: 'known', from: firstDraw };
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
      for (const { index, epoch } of listed) this.#reportExample('never', name, epoch, index, step);
    }
  }

  #reportExample(
    kind: 'never' | 'twice' | 'early' | 'no such example',
    task: string,
    epoch: number,
    index: number,
    step: number,
  ): void {
    const what = {
      never: `was left out: its window ended by step ${step}`,
      twice: `came a second time in step ${step}`,
      early: `came in step ${step}, but its draw came before step ${this.#from}`,
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

  #reportDamage(what: string): void {
    this.#violations.add({ kind: 'damaged', what, steps: [] });
  }

  finish(): void {
    this.#commits.finish();
  }

  /** Adds the steps of a segment to the listed repeated examples. */
  findRepeated(path: string, bytes: Buffer): void {
    const segment = parseSegment(bytes);
    if (typeof segment === 'string') return;
    for (const { step, epoch: run, readLanes, header } of decodeSteps(path, segment)) {
      if (this.#history.sessionOf(step)?.epoch !== run || step < this.#from || step > this.#to) continue;
      for (const { task, epoch, index } of readLanes().flat(2)) {
        const steps = this.repeated.get(keyOf(header.tasks[task]![0], epoch, index));
        if (steps !== undefined && !steps.includes(step)) steps.push(step);
      }
    }
  }

  result(): Omit<AuditReport, 'runFolder' | 'from' | 'to' | 'numSegments' | 'sessions'> {
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

/** The ledger against the journal: the ledger holds each committed step of a session once, with its gradient and its loss. */
class CommitCheck {
  readonly #history: RunHistory;
  readonly #from: number;
  readonly #to: number;
  readonly #violations: Violations;
  /** Of each epoch, 1 for each commit that the ledger holds. */
  readonly #recorded: ReadonlyMap<number, Uint8Array>;

  /** @param from, to the steps to compare, of every epoch */
  constructor(history: RunHistory, from: number, to: number, violations: Violations) {
    this.#history = history;
    this.#from = from;
    this.#to = to;
    this.#violations = violations;
    this.#recorded = new Map(
      history.sessions.map(({ epoch, startStep, lastStep }) => [epoch, new Uint8Array(lastStep - startStep)]),
    );
  }

  /** @param mayBeAhead the run may be about to commit the step, or was killed before it did */
  add(figures: StepFigures, epoch: number, mayBeAhead: boolean): void {
    const { step, gradDigest, loss } = figures;
    if (step < this.#from || step > this.#to) return;
    const commit = this.#history.commit(epoch, step);
    const session = this.#history.session(epoch);
    const report = (kind: 'twice' | 'differs' | 'not committed', what: string): void => {
      this.#violations.add({ kind, what: `step ${step} of epoch ${epoch}: ${what}`, steps: [step] });
    };
    if (commit === undefined || session === undefined) {
      if (!mayBeAhead) report('not committed', 'in the ledger, and not in the journal');
      return;
    }
    const recorded = this.#recorded.get(epoch)!;
    const place = step - session.startStep - 1;
    if (recorded[place] === 1) report('twice', 'the ledger holds it twice');
    recorded[place] = 1;
    if (commit.gradDigest !== gradDigest || !Object.is(commit.loss, loss))
      report(
        'differs',
        `gradient ${gradDigest} and loss ${loss} in the ledger, ${commit.gradDigest} and ${commit.loss} in the journal`,
      );
  }

  /** Reports the committed steps that the ledger lacks. */
  finish(): void {
    for (const { epoch, startStep, lastStep } of this.#history.sessions) {
      const recorded = this.#recorded.get(epoch)!;
      const end = Math.min(lastStep, this.#to);
      for (let step = Math.max(startStep + 1, this.#from); step <= end; step++) {
        const first = step;
        while (step <= end && recorded[step - startStep - 1] === 0) step += 1;
        if (step === first) continue;
        const what = `steps ${first} to ${step - 1} of epoch ${epoch}: committed, and not in the ledger`;
        this.#violations.add({ kind: 'not recorded', what, steps: [first, step - 1] });
      }
    }
  }
}

/** Counts all violations, and keeps the first ones of each kind. */
class Violations {
  readonly #listed = new Map<ViolationKind, Violation[]>(KINDS.map((kind) => [kind, []]));
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Whether the next violation of this kind is listed. */
  hasRoom(kind: ViolationKind): boolean {
    return this.#listed.get(kind)!.length < MAX_LISTED;
  }

  add(violation: Violation): void {
    this.#count += 1;
    if (this.hasRoom(violation.kind)) this.#listed.get(violation.kind)!.push(violation);
  }

  /** Counts violations without listing them. */
  addUnlisted(count: number): void {
    this.#count += count;
  }

  /** By kind, in the order of `KINDS`. */
  list(): Violation[] {
    return [...this.#listed.values()]
      .flat()
      .map((violation) => ({ ...violation, steps: [...violation.steps].sort((a, b) => a - b) }));
  }
}
