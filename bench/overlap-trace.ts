/**
 * Converts the probe records of a run to Chrome trace events (for https://ui.perfetto.dev or chrome://tracing): one process per worker, with
 * the phases of its compute thread, the gradients that the engine returned, and a track for each bucket in its network thread.
 * Source: the Trace Event Format; `X` is a slice with a duration, `i` a moment, `M` a name. Times are µs.
 */
import type { ProbeRecord } from './overlap-probe.ts';

export interface WorkerRecords {
  readonly workerId: string;
  readonly compute: readonly ProbeRecord[];
  readonly link: readonly ProbeRecord[];
}

export interface TraceEvent {
  readonly ph: 'X' | 'i' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly name: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

/** Gradients with a shorter gap form one group, ms. */
const GROUP_GAP_MS = 1;
const PHASES_TRACK = 1;
const GRADIENTS_TRACK = 2;
const FIRST_BUCKET_TRACK = 10;

/** @param bucketBytes by bucket @param parameterNames by parameter, in forward order */
export function traceEvents(
  workers: readonly WorkerRecords[],
  bucketBytes: readonly number[],
  parameterNames: readonly string[],
): TraceEvent[] {
  const originMs = Math.min(...workers.flatMap(({ compute }) => compute.map(({ atMs }) => atMs)));
  const microseconds = (ms: number): number => Math.round(ms * 1000);
  return workers.flatMap(({ workerId, compute, link }, index) => {
    const pid = index + 1;
    const events: TraceEvent[] = [{ ph: 'M', pid, tid: 0, name: 'process_name', args: { name: `worker ${workerId}` } }];
    const track = (tid: number, name: string): number =>
      events.push({ ph: 'M', pid, tid, name: 'thread_name', args: { name } });
    const slice = (tid: number, name: string, startMs: number, endMs: number, args: TraceEvent['args'] = {}): number =>
      events.push({
        ph: 'X',
        pid,
        tid,
        name,
        ts: microseconds(startMs - originMs),
        dur: microseconds(endMs - startMs),
        args,
      });
    track(PHASES_TRACK, 'compute thread: phase');
    track(GRADIENTS_TRACK, 'compute thread: gradients handed out');
    for (const [bucket, bytes] of bucketBytes.entries())
      track(FIRST_BUCKET_TRACK + bucket, `network thread: bucket ${bucket} (${(bytes / 2 ** 20).toFixed(1)} MiB)`);

    const phases = compute.filter((record) => record.kind === 'phase');
    for (const [i, { atMs, phase, step }] of phases.entries())
      slice(PHASES_TRACK, phase, atMs, phases[i + 1]?.atMs ?? atMs, { step: step + 1 });
    for (const { first, last, startMs, endMs } of handedOut(compute))
      slice(GRADIENTS_TRACK, first === last ? `gradient ${first}` : `gradients ${first} … ${last}`, startMs, endMs, {
        first: parameterNames[first],
        last: parameterNames[last],
      });
    for (const record of compute)
      if (record.kind === 'posted') {
        const name = `bucket ${record.bucket} posted`;
        events.push({ ph: 'i', pid, tid: GRADIENTS_TRACK, name, ts: microseconds(record.atMs - originMs) });
      }
    for (const record of link)
      if (record.kind === 'reduced')
        for (const [bucket, { announcedMs, finalMs }] of record.buckets.entries())
          slice(FIRST_BUCKET_TRACK + bucket, `bucket ${bucket}`, record.atMs + announcedMs, record.atMs + finalMs, {
            step: record.step,
            bytes: bucketBytes[bucket],
          });
    return events;
  });
}

interface HandedOut {
  readonly first: number;
  last: number;
  readonly startMs: number;
  endMs: number;
}

function handedOut(records: readonly ProbeRecord[]): HandedOut[] {
  const groups: HandedOut[] = [];
  for (const record of records) {
    if (record.kind !== 'gradient') continue;
    const { parameter, atMs, endMs } = record;
    const group = groups.at(-1);
    const isSameGroup = group !== undefined && atMs - group.endMs < GROUP_GAP_MS && parameter === group.last - 1;
    if (isSameGroup) Object.assign(group, { last: parameter, endMs });
    else groups.push({ first: parameter, last: parameter, startMs: atMs, endMs });
  }
  return groups;
}
