/** A TFRecord file of tf.train.Example (TFDS, seqio caches) → batches of records, streaming. */
import type { UnitOptions } from '../read-options.ts';
import { streamBytes } from '../file-stream.ts';
import type { SourceFileBytes } from '../source-file.ts';
import type { RecordBatch, SourceRecord } from '../source-record.ts';
import { parseExample } from './example-message.ts';
import { FrameReader, type RecordFrame } from './record-frames.ts';

/** @throws SOURCE_UNREADABLE, ABORTED */
export async function* readTfrecords(file: SourceFileBytes, options: UnitOptions): AsyncGenerator<RecordBatch> {
  const frames = new FrameReader(file.name, options.maxRecordBytes);
  let row = 0;
  for await (const chunk of streamBytes(file, options)) {
    const batch = frames.push(chunk).map((frame) => toRecord(frame, file.name, ++row, options.requiredFields));
    if (batch.length > 0) yield batch;
  }
  frames.end();
}

function toRecord(frame: RecordFrame, file: string, row: number, wanted: readonly string[]): SourceRecord {
  const parsed = frame.ok ? parseExample(frame.data, wanted) : frame;
  return parsed.ok ? { file, row, ...parsed } : { file, row, rows: 1, ...parsed };
}
