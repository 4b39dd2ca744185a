/**
 * The log: pino JSONL with a constant `msg`; fields by `child()`. Programs read the coordinator's file (docs/logs.md).
 * A second sink may print the same records on a terminal.
 */
import { Writable } from 'node:stream';
import { pino, type Logger } from 'pino';
import { systemCode } from './atomic-file.ts';

export type { Logger };

/** Most bytes of lines that wait while the disk is full; further lines are missing in the file. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

/** A record of the log as a reader sees it. */
export type LogRecord = Readonly<Record<string, unknown>> & {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
};

export interface LogInit {
  /**
   * JSONL file; appended to. Written synchronously: a logged line is in the file, also after a crash. While the disk is full, lines wait
   * in memory; the first write that succeeds writes them, in order.
   */
  readonly file?: string;
  /** Called with every record, e.g. to print it. */
  readonly onRecord?: (record: LogRecord) => void;
  readonly level?: 'debug' | 'info' | 'warn' | 'error';
  /** Fields of every record. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** @throws the file system's error when the file cannot be opened */
export function createLogger({ file, onRecord, level = 'info', fields = {} }: LogInit): Logger {
  const streams: { stream: NodeJS.WritableStream | pino.DestinationStream; level: 'debug' }[] = [];
  if (file !== undefined) streams.push({ stream: openFile(file), level: 'debug' });
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

function openFile(file: string): pino.DestinationStream {
  const destination = pino.destination({ dest: file, sync: true, mkdir: true, maxLength: MAX_HELD_BYTES });
  // The destination keeps the lines and writes them with the next one: a full disk pauses a run and must not end it here.
  destination.on('error', (error: unknown) => {
    const code = systemCode(error);
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  });
  return destination;
}
