/** Reference folders of models (golden/load): what is read gives the reference's tokens, what must be refused is. */
import { join } from 'node:path';
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createEngine } from '../../worker/engine-choice/create-engine.ts';
import { readModel } from '../../worker/model/read-model.ts';
import type { GoldenCase } from './metric-cases.ts';

interface LoadRow {
  readonly input_ids: readonly number[];
  readonly ids: readonly number[];
  readonly first_step_logits: readonly number[];
}

export interface LoadReport {
  numCases: number;
  worst: number;
  readonly failures: string[];
}

export function isLoadFile(content: GoldenCase): boolean {
  return Array.isArray(content['load']) && Array.isArray(content['refuse']);
}

/** Pickled weights may be read or refused; we refuse them. */
const MAY_BE_REFUSED = new Set(['pickle-only']);

/** @param place the folder of the file, which has the models' folders */
export async function checkLoadFile(content: GoldenCase, place: string, engineName: string): Promise<LoadReport> {
  const report: LoadReport = { numCases: 0, worst: 0, failures: [] };
  const maxNewTokens = content['max_new_tokens'] as number;
  const tolerance = content['logit_tolerance'] as number;
  for (const { folder, rows } of content['load'] as readonly { folder: string; rows: readonly LoadRow[] }[]) {
    report.numCases++;
    try {
      for (const [number, row] of rows.entries()) {
        const { ids, firstLogits } = await runRow(join(place, folder), row, maxNewTokens, engineName);
        if (ids.join() !== row.ids.join()) report.failures.push(`${folder} row ${number}: ours ${ids.join(' ')}, reference ${row.ids.join(' ')}`);
        row.first_step_logits.forEach((logit, at) => {
          const difference = Math.abs(logit - firstLogits[at]!);
          report.worst = Math.max(report.worst, difference);
          if (!(difference <= tolerance)) report.failures.push(`${folder} row ${number}: logit ${at} is off by ${difference}`);
        });
      }
    } catch (error) {
      if (!(error instanceof TrainerError && MAY_BE_REFUSED.has(folder))) report.failures.push(`${folder}: ${String(error)}`);
    }
  }
  for (const { folder, why } of content['refuse'] as readonly { folder: string; why: string }[]) {
    report.numCases++;
    try {
      await readModel(join(place, folder));
      report.failures.push(`${folder} was read, although ${why}`);
    } catch (error) {
      if (!(error instanceof TrainerError)) report.failures.push(`${folder}: refused without a code: ${String(error)}`);
    }
  }
  return report;
}

async function runRow(
  folder: string,
  row: LoadRow,
  maxNewTokens: number,
  engineName: string,
): Promise<{ ids: readonly number[]; firstLogits: Float32Array }> {
  const { config, parameters } = await readModel(folder);
  const { engine } = await createEngine({ name: engineName, config, zLoss: 0 });
  await engine.load(parameters, 'zero');
  const numInputs = row.input_ids.length;
  const inputs = {
    numRows: 1,
    inputsLength: numInputs,
    encoderInputIds: Int32Array.from(row.input_ids),
    encoderSegmentIds: new Int32Array(numInputs).fill(1),
  };
  const one = (value: number): Int32Array => Int32Array.of(value);
  const first = { targetsLength: 1, decoderInputIds: one(0), decoderSegmentIds: one(1), labels: one(-1) };
  const { logits } = await engine.forward({ ...inputs, ...first });
  const decoding = await engine.startDecoding(inputs);
  const search = createSearch(parseDecodingSettings({ method: 'greedy', maxNewTokens }), 0, decoding.vocabSize);
  const [hypotheses] = await decodeBatch(decoding, [search]);
  decoding.dispose();
  await engine.dispose();
  return { ids: hypotheses![0]!.ids, firstLogits: logits };
}
