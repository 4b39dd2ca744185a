/**
 * The log: pino JSONL with a constant `msg`; fields by `child()`. Programs read the coordinator's file (docs/logs.md).
 * A second sink may print the same records on a terminal.
 */
import { Writable } from 'node:stream';
import { pino, type Logger } from 'pino';
import { systemCode, toStorageError } from './atomic-file.ts';

export type { Logger };

/** Most bytes of lines that wait while the file cannot be written; further lines are missing in it. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

/** A record of the log as a reader sees it. */
export type LogRecord = Readonly<Record<string, unknown>> & {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
};

export interface LogInit {
  /**
   * JSONL file; appended to. Written synchronously: a logged line is in the file, also after a crash. While the file cannot be written
   * (full disk, failing disk), lines wait in memory; the first write that succeeds writes them, in order.
   */
  readonly file?: string;
  /** Called at the first line of a series that cannot be written to the file. @param code of the system */
  readonly onFileFailure?: (code: string) => void;
  /** Called with every record, e.g. to print it. */
  readonly onRecord?: (record: LogRecord) => void;
  readonly level?: 'debug' | 'info' | 'warn' | 'error';
  /** Fields of every record. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** @throws PATH_UNUSABLE, DISK_FULL when the file cannot be opened */
export function createLogger({ file, onFileFailure, onRecord, level = 'info', fields = {} }: LogInit): Logger {
  const streams: { stream: NodeJS.WritableStream | pino.DestinationStream; level: 'debug' }[] = [];
  if (file !== undefined) streams.push({ stream: openFile(file, onFileFailure), level: 'debug' });
  if (onRecord !== undefined) {
    const sink = new Writable({
      decodeStrings: false,
      write(line: string, _encoding, done) {
        onRecord(JSON.parse(line) as LogRecord);
        done();
      },
    });
    streams.push({ stream: sink, level: 'debug' });
  }
  return pino(
    {
      level,
      base: { ...fields },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.multistream(streams),
  );
}

function openFile(file: string, onFailure: LogInit['onFileFailure']): pino.DestinationStream {
  const destination = openDestination(file);
  let isFailing = false;
  destination.on('write', () => (isFailing = false));
  // The destination keeps the lines and writes them with the next one. A log that cannot be written must not end a run.
  destination.on('error', (error: unknown) => {
    const code = systemCode(error);
    if (code === undefined) throw error;
    if (!isFailing) queueMicrotask(() => onFailure?.(code)); // not in the middle of a write
    isFailing = true;
  });
  return destination;
}

function openDestination(file: string) {
  try {
    return pino.destination({ dest: file, sync: true, mkdir: true, maxLength: MAX_HELD_BYTES });
  } catch (error) {
    throw toStorageError(error, 'append to', file);
  }
}
