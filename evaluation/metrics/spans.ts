/**
 * F1 of entities and of slots, micro-averaged over the corpus, as fractions.
 *
 * Sources: seqeval's default mode, which is conlleval's rule (CoNLL-03); slots as multisets of (slot, value).
 */
import { checkPaired, sumScorer, type Metric } from './scorer.ts';

interface Entity {
  readonly type: string;
  readonly start: number;
  /** Index of the token after the last one. */
  readonly end: number;
}

/** Entities of BIO tags: an `I-` after another type, or after `O`, starts an entity, as conlleval has it. */
function entitiesOf(tags: readonly string[]): Entity[] {
  const entities: Entity[] = [];
  let open: { type: string; start: number } | undefined;
  tags.concat('O').forEach((tag, at) => {
    const [prefix = 'O', ...rest] = tag.split('-');
    const type = rest.length === 0 ? '_' : rest.join('-');
    const continues = open !== undefined && prefix === 'I' && type === open.type;
    if (open !== undefined && !continues) {
      entities.push({ ...open, end: at });
      open = undefined;
    }
    if (open === undefined && prefix !== 'O') open = { type, start: at };
  });
  return entities;
}

function precisionRecallF1(
  numCommon: number,
  numPredicted: number,
  numWanted: number,
): { precision: number; recall: number; f1: number } {
  const precision = numPredicted === 0 ? 0 : numCommon / numPredicted;
  const recall = numWanted === 0 ? 0 : numCommon / numWanted;
  return { precision, recall, f1: precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}

/** Entities right by type and both boundaries; `token_accuracy` is the share of equal tags. Lists of tags have equal lengths. */
export const entityF1: Metric<readonly string[]> = (targets, predictions) => {
  checkPaired('entity_f1', targets, predictions);
  const rows = targets.map((target, at) => {
    const prediction = predictions[at]!;
    const key = ({ type, start, end }: Entity): string => `${start} ${end} ${type}`;
    const wanted = new Set(entitiesOf(target).map(key));
    const predicted = new Set(entitiesOf(prediction).map(key));
    const numCommon = [...predicted].filter((entity) => wanted.has(entity)).length;
    const numEqual = target.filter((tag, place) => tag === prediction[place]).length;
    return [numCommon, predicted.size, wanted.size, numEqual, target.length];
  });
  return sumScorer(rows, 5, ([numCommon = 0, numPredicted = 0, numWanted = 0, numEqual = 0, numTags = 0]) => ({
    ...precisionRecallF1(numCommon, numPredicted, numWanted),
    token_accuracy: numEqual / numTags,
  }));
};

export type Slot = readonly [slot: string, value: string];

/** Pairs of slot and value as multisets: a pair that is wanted twice counts twice. */
export const slotF1: Metric<readonly Slot[]> = (targets, predictions) => {
  checkPaired('slot_f1', targets, predictions);
  const rows = targets.map((target, at) => {
    const prediction = predictions[at]!;
    const left = new Map<string, number>();
    for (const slot of target) left.set(JSON.stringify(slot), (left.get(JSON.stringify(slot)) ?? 0) + 1);
    let numCommon = 0;
    for (const slot of prediction) {
      const count = left.get(JSON.stringify(slot)) ?? 0;
      if (count > 0) numCommon++;
      left.set(JSON.stringify(slot), count - 1);
    }
    return [numCommon, prediction.length, target.length];
  });
  return sumScorer(rows, 3, ([numCommon = 0, numPredicted = 0, numWanted = 0]) =>
    precisionRecallF1(numCommon, numPredicted, numWanted),
  );
};
