/** Prints a run to the console: one short line for each log record and, on a terminal, one progress line at the bottom. */
import type { LogRecord } from '../shared/logger.ts';
import { visibleText } from '../shared/visible-text.ts';

const CLEAR_LINE = '\r\u001b[2K';
const BAR_CELLS = 24;
/** Without a terminal, only every n-th step is printed, and the first and the last. */
const PLAIN_EVERY_STEPS = 10;

export interface ReporterOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export class ConsoleReporter {
  readonly #output: ReporterOutput;
  readonly #isTerminal: boolean;
  #progress = '';

  constructor(output: ReporterOutput) {
    this.#output = output;
    this.#isTerminal = output.isTTY === true;
  }

  /** Prints one record of the coordinator's log. */
  record(record: LogRecord): void {
    if (record.msg === 'step committed') this.#step(record);
    else if (record.msg === 'validation') this.#validation(record);
    else if (record.msg !== 'run summary')
      // The command prints the summary as a table.
      this.line(`${time(record)} ${formatRecord(record)}`);
  }

  /** Prints a line above the progress line. */
  line(text: string): void {
    if (this.#progress !== '') this.#output.write(CLEAR_LINE);
    this.#output.write(`${visibleText(text)}\n`);
    if (this.#progress !== '') this.#output.write(this.#progress);
  }

  /** Ends the progress line, so that later output starts on its own line. */
  end(): void {
    if (this.#progress !== '') this.#output.write('\n');
    this.#progress = '';
  }

  /** Its tasks are in the summary. */
  #validation(record: LogRecord): void {
    const { step, split, loss, metric, score, ms } = record;
    const facts = [`loss ${describeScore(loss)}`, `${String(metric)} ${describeScore(score)}`];
    const seconds = formatSeconds(Number(ms) / 1000);
    this.line(`${time(record)} ${String(split)} after step ${String(step)} · ${facts.join(' · ')} · ${seconds}`);
  }

  #step(record: LogRecord): void {
    const step = Number(record['step']);
    const steps = Number(record['steps']);
    const facts =
      `step ${step}/${steps} · loss ${Number(record['loss']).toFixed(3)} · ` +
      `${String(record['tokensPerSecond'])} tokens/s · ETA ${formatSeconds(Number(record['etaSeconds']))}`;
    if (this.#isTerminal) {
      const filled = Math.round((BAR_CELLS * step) / steps);
      this.#progress = `${'█'.repeat(filled)}${'░'.repeat(BAR_CELLS - filled)} ${facts}`;
      this.#output.write(CLEAR_LINE + this.#progress);
    } else if (step === 1 || step === steps || step % PLAIN_EVERY_STEPS === 0) this.line(`${time(record)} ${facts}`);
  }
}

/** 3725 → `1 h 02 min`, 65 → `1 min 05 s`, 7 → `7 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  const pad = (value: number) => String(value).padStart(2, '0');
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  if (whole >= 60) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${whole} s`;
}

function describeScore(score: unknown): string {
  return typeof score === 'number' ? score.toFixed(3) : 'not defined';
}

function time(record: LogRecord): string {
  return record.time.slice(11, 19);
}

/** `msg key=value …`, with the level of a warning or worse in front. */
function formatRecord({ level, msg, ...fields }: LogRecord): string {
  const shown = Object.entries(fields).filter(
    ([name, value]) => name !== 'time' && value !== undefined && value !== null && value !== '',
  );
  const pairs = shown.map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const prefix = level === 'info' || level === 'debug' ? '' : `${level.toUpperCase()} `;
  return [`${prefix}${msg}`, ...pairs].join(' ');
}
